//! One seed, many seeds.

use super::call_out::{self, Place, Thrown, call_out};
use super::character::Character;
use super::ledger::{Ledger, close, ledger};
use super::program::{self, Lines};
use super::schedule::{self, Turns, number};
use super::things;
use crate::random::Random;
use crate::sync;
use crate::sys::seeded::{Machine, go_on, machine, violated};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// More steps than this are a program that goes round in a circle.
const MOST: usize = 400_000;

/// What is running, for a process that ends in the middle.
static SEED: AtomicU64 = AtomicU64::new(0);

/// What one seed makes.
struct Case {
    seed: u64,
    character: Character,
    program: Vec<Lines>,
}

impl Case {
    fn of(seed: u64) -> Case {
        let mut dice = Random(seed);
        let character = Character::of(&mut dice);
        let program = program::lines(&character, &mut dice);
        Case {
            seed,
            character,
            program,
        }
    }

    /// Runs it in one order, and returns what was violated.
    fn run(&self, order: u64) -> Vec<String> {
        let turns = Turns::new(
            self.seed ^ order.wrapping_mul(0x1234_5678_9abc_def1),
            &self.character,
        );
        let (character, program, seed) = (self.character.clone(), self.program.clone(), self.seed);
        let body = move || one_execution(seed ^ order, &character, &program);
        SEED.store(self.seed, Ordering::Relaxed);
        machine(|machine| *machine = Machine::new(0, self.character.mood));
        let outcome = catch_unwind(AssertUnwindSafe(|| Runner::new(turns, config()).run(body)));
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            machine(|machine| machine.violate(text.unwrap_or_default()));
        }
        machine(|machine| machine.violations().to_vec())
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 0x20_000;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(MOST);
    config.silence_warnings = true;
    config
}

/// The first task: it begins the program, and then it is the world.
fn one_execution(seed: u64, character: &Character, program: &[Lines]) {
    begin(seed, character);
    let (theirs, lines) = (character.clone(), program.to_vec());
    let program = shuttle::thread::spawn(move || program::carry_out(&theirs, lines));
    loop {
        shuttle::thread::yield_now();
        let is_alone = schedule::is_alone();
        if !go_on(is_alone) {
            break; // the threads that are left wait for ever: shuttle says which
        }
    }
    drop(program.join());
    // Without a thread to end it on, a context stays.
    close(
        character.refused_threads > 0,
        things::eventfds().iter().map(things::number_of),
    );
}

fn begin(seed: u64, character: &Character) {
    sync::begin(character.refused_threads);
    machine(|machine| {
        let before = machine.violations().to_vec();
        *machine = Machine::new(seed, character.mood);
        before.into_iter().for_each(|text| machine.violate(text));
        let eventfds = things::eventfds().iter().map(things::number_of);
        eventfds.for_each(|eventfd| machine.add_eventfd(eventfd));
    });
    ledger(|ledger| *ledger = Ledger::new(seed));
    call_out::begin(character.hostility, character.shapes.len());
}

/// The program's logger, which is user code.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        drop(record.args().to_string());
        call_out(Place::Logger);
    }

    fn flush(&self) {}
}

/// Once for a process: a panic that user code did not mean is a violation, wherever it is caught.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        shuttle::check_random(|| (), 1); // sets a hook of its own, once
        std::panic::set_hook(Box::new(|panic| {
            if !panic.payload().is::<Thrown>() {
                // At once: what follows may end the process.
                eprintln!("seed {}: {panic}", SEED.load(Ordering::Relaxed));
                violated(panic.to_string());
                schedule::stop();
            }
        }));
        if number("KIOCB_WHERE", 0) > 0 {
            sync::note_sleepers();
        }
        log::set_logger(&Logger).expect("no other logger");
        log::set_max_level(log::LevelFilter::Trace);
    });
}

fn report(case: &Case, order: u64, violations: &[String]) {
    for (thread, place) in sync::sleepers() {
        let ours = place.lines().filter(|line| line.contains("at ./src"));
        let lines: Vec<_> = ours.map(str::trim).collect();
        println!("thread {thread} sleeps\n  {}", lines.join("\n  "));
    }
    println!("seed {} order {order}: {violations:#?}", case.seed);
    println!("{:#?}", case.character);
}

/// The places of a program's lines that are kept, of each thread.
type Kept = Vec<Vec<usize>>;

fn all_of(case: &Case) -> Kept {
    let threads = case.program.iter();
    threads.map(|lines| (0..lines.len()).collect()).collect()
}

/// `0,3/1/`: two lines of the first thread, one of the second, none of the third.
fn written(kept: &Kept) -> String {
    let thread = |lines: &Vec<usize>| {
        let places: Vec<_> = lines.iter().map(usize::to_string).collect();
        places.join(",")
    };
    kept.iter().map(thread).collect::<Vec<_>>().join("/")
}

fn parsed(text: &str) -> Kept {
    let place = |place: &str| place.parse().expect("a place of a line");
    let lines = |thread: &str| {
        let places = thread.split(',').filter(|place| !place.is_empty());
        places.map(place).collect()
    };
    text.split('/').map(lines).collect()
}

fn cut(case: &Case, kept: &Kept) -> Case {
    let threads = case.program.iter().zip(kept);
    let program = threads.map(|(lines, kept)| kept.iter().map(|&place| lines[place]).collect());
    Case {
        seed: case.seed,
        character: case.character.clone(),
        program: program.collect(),
    }
}

/// In how many orders a shorter program is tried.
const ORDERS: u64 = 30;

/// Leaves out lines, one after the other, as long as the rest fails in some order.
fn shorten(case: &Case) -> (Kept, u64) {
    let (mut kept, mut order) = (all_of(case), 0);
    for thread in 0..kept.len() {
        let mut at = 0;
        while at < kept[thread].len() {
            let mut shorter = kept.clone();
            shorter[thread].remove(at);
            let program = cut(case, &shorter);
            match (0..ORDERS).find(|&order| !program.run(order).is_empty()) {
                Some(failing) => (kept, order) = (shorter, failing),
                None => at += 1,
            }
        }
    }
    (kept, order)
}

/// What the environment asks for: a seed, some of its lines, an order.
fn asked_for(seed: u64) -> (Case, u64) {
    let case = Case::of(seed);
    let kept = std::env::var("KIOCB_KEEP").map_or_else(|_| all_of(&case), |text| parsed(&text));
    (cut(&case, &kept), number("KIOCB_ORDER", 0))
}

/// Says how to repeat what failed, in one line, and with fewer lines of the program if that is asked for.
fn tell(case: &Case, order: u64, violations: &[String]) {
    report(case, order, violations);
    println!("KIOCB_SEED={} KIOCB_SEEDS=1 KIOCB_ORDER={order}", case.seed);
    if number("KIOCB_SHORTEN", 0) > 0 {
        let (kept, order) = shorten(case);
        let kept = written(&kept);
        println!(
            "KIOCB_SEED={} KIOCB_SEEDS=1 KIOCB_ORDER={order} KIOCB_KEEP={kept}",
            case.seed
        );
    }
}

#[test]
fn random_programs_keep_the_contract() {
    prepare();
    let (first, seeds) = (number("KIOCB_SEED", 0), number("KIOCB_SEEDS", 300));
    let (began, mut said) = (Instant::now(), Instant::now());
    let mut failed = 0;
    for seed in first..first + seeds {
        let (case, order) = asked_for(seed);
        let before = schedule::steps();
        let violations = case.run(order);
        if number("KIOCB_EACH", 0) > 0 {
            println!("seed {seed}: {} steps", schedule::steps() - before);
        }
        if !violations.is_empty() {
            failed += 1;
            tell(&case, order, &violations);
            if number("KIOCB_STOP", 0) > 0 {
                break;
            }
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            let (steps, rate) = rate(began);
            println!("seed {seed}: {steps} steps, {rate} in a second, {failed} failed");
        }
    }
    let (steps, rate) = rate(began);
    println!("{seeds} seeds from {first} on: {steps} steps, {rate} in a second, {failed} failed");
    call_out::forget(); // what runs that failed have left
    assert_eq!(failed, 0, "see above");
}

fn rate(began: Instant) -> (u64, u64) {
    let (steps, seconds) = (schedule::steps(), began.elapsed().as_secs_f64());
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a figure to be read"
    )]
    (steps, (steps as f64 / seconds) as u64)
}
