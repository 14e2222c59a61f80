//! Tries mutants: which programs reach them, and whether one of these notices.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::mutant::Mutant;
use crate::oracle::{self, End, Oracle, Run};
use crate::{Result, plant};

/// What is known of one test of an oracle without a mutant.
struct Known {
    oracle: usize,
    test: String,
    took: Duration,
    reached: Vec<bool>,
}

struct Trial {
    oracles: Vec<Oracle>,
    known: Vec<Known>,
}

/// What became of the mutants that were tried, by number: `caught by …`, `missed by …`, `not reached`.
pub(crate) fn verdicts(copy: &Path) -> HashMap<usize, String> {
    let text = fs::read_to_string(copy.with_extension("verdicts")).unwrap_or_default();
    let verdict = |line: &str| {
        let (number, verdict) = line.split_once(' ')?;
        Some((number.parse().ok()?, verdict.to_owned()))
    };
    text.lines().filter_map(verdict).collect()
}

/// Goes on where the last run has ended.
pub(crate) fn of_all(mutants: &[Mutant], copy: &Path, oracles: &Path) -> Result<()> {
    let oracles = oracle::read(oracles)?;
    let known = measure(&oracles, mutants.len(), copy)?;
    let trial = Trial { oracles, known };
    let (tried, unfit) = (verdicts(copy), plant::left_out(copy)?);
    let is_left =
        |mutant: &&Mutant| !tried.contains_key(&mutant.number) && !unfit.contains(&mutant.number);
    let left: Vec<&Mutant> = mutants.iter().filter(is_left).collect();
    let log = File::options()
        .create(true)
        .append(true)
        .open(copy.with_extension("verdicts"))?;
    let log = Mutex::new(log);
    on_each_processor(&left, |worker, mutant| {
        let began = Instant::now();
        let verdict = trial.of(mutant, &scratch(copy, worker))?;
        println!(
            "{} {} {verdict} ({:.1} s)",
            mutant.number,
            mutant.name,
            began.elapsed().as_secs_f64()
        );
        writeln!(log.lock().expect("no panic"), "{} {verdict}", mutant.number)?;
        Ok(())
    })
}

fn scratch(copy: &Path, worker: usize) -> PathBuf {
    copy.with_extension(format!("scratch-{worker}"))
}

/// Takes one after the other until all are done. An error ends it.
fn on_each_processor<T: Sync>(
    all: &[T],
    work: impl Fn(usize, &T) -> Result<()> + Sync,
) -> Result<()> {
    let processors = env::var("KIOCB_JOBS")
        .ok()
        .and_then(|jobs| jobs.parse().ok());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    thread::scope(|scope| {
        for worker in 0..processors.unwrap_or(2) {
            let (next, failed, work) = (&next, &failed, &work);
            scope.spawn(move || {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(worker, one) {
                        next.store(all.len(), Ordering::Relaxed);
                        *failed.lock().expect("no panic") = Some(error.to_string());
                    }
                }
            });
        }
    });
    failed
        .into_inner()
        .expect("no panic")
        .map_or(Ok(()), |error| Err(error.into()))
}

/// Runs each test alone, without a mutant. What fails then is left out, and said.
fn measure(oracles: &[Oracle], mutants: usize, copy: &Path) -> Result<Vec<Known>> {
    let mut all = Vec::new();
    for (place, oracle) in oracles.iter().enumerate() {
        match oracle.seeds {
            Some(_) => all.push((place, String::new())),
            None => all.extend(oracle.tests()?.into_iter().map(|test| (place, test))),
        }
    }
    println!("{} tests are measured", all.len());
    let known = Mutex::new(Vec::new());
    on_each_processor(&all, |worker, (place, test)| {
        let one = measured(&oracles[*place], test, mutants, &scratch(copy, worker))?;
        match one {
            Some((took, reached)) => known.lock().expect("no panic").push(Known {
                oracle: *place,
                test: test.clone(),
                took,
                reached,
            }),
            None => println!("fails without a mutant: {} {test}", oracles[*place].name),
        }
        Ok(())
    })?;
    let known = known.into_inner().expect("no panic");
    println!(
        "{} tests, {:.0} s",
        known.len(),
        known
            .iter()
            .map(|known| known.took.as_secs_f64())
            .sum::<f64>()
    );
    Ok(known)
}

/// What it took and reached, unless it fails or reaches nothing.
fn measured(
    oracle: &Oracle,
    test: &str,
    mutants: usize,
    scratch: &Path,
) -> Result<Option<(Duration, Vec<bool>)>> {
    let map = scratch.with_extension(format!(
        "{}-reached",
        scratch.extension().unwrap_or_default().display()
    ));
    fs::write(&map, vec![0; mutants + 1])?;
    let tests = [test];
    let run = Run {
        reached: Some(&map),
        tests: if test.is_empty() { &[] } else { &tests },
        limit: Duration::from_secs(600),
        ..Run::default()
    };
    let began = Instant::now();
    let end = oracle.run(&run, scratch)?;
    let reached = fs::read(&map)?.iter().map(|&byte| byte != 0).collect();
    Ok(match end {
        End::Passed => Some((began.elapsed(), reached)),
        End::Failed(_) => None,
    })
}

impl Trial {
    /// The simulation first, then the programs whose tests take the shortest time.
    fn of(&self, mutant: &Mutant, scratch: &Path) -> Result<String> {
        let mut reaching: BTreeMap<usize, Vec<&Known>> = BTreeMap::new();
        for known in self
            .known
            .iter()
            .filter(|known| known.reached[mutant.number])
        {
            reaching.entry(known.oracle).or_default().push(known);
        }
        let mut reaching: Vec<_> = reaching.into_iter().collect();
        reaching
            .sort_by_key(|(oracle, known)| (self.oracles[*oracle].seeds.is_none(), in_all(known)));
        let (mut missed, mut left) = (0, budget());
        for (oracle, known) in reaching {
            let oracle = &self.oracles[oracle];
            let known = within(known, &mut left);
            if known.is_empty() {
                continue;
            }
            if let Some(reason) = catches(oracle, mutant.number, &known, scratch)? {
                return Ok(format!("caught by {}: {reason}", oracle.name));
            }
            missed += known.len();
        }
        Ok(match missed {
            0 => "not reached".to_owned(),
            missed => format!("missed by {missed}"),
        })
    }
}

/// How long the tests of one mutant may take together: those that take longest are left out.
fn budget() -> Duration {
    let seconds = env::var("KIOCB_MUTANTS_BUDGET")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// As many of them as fit into what is left.
fn within<'a>(mut known: Vec<&'a Known>, left: &mut Duration) -> Vec<&'a Known> {
    known.sort_by_key(|known| known.took);
    let fits = |known: &&Known| match left.checked_sub(known.took) {
        Some(less) => {
            *left = less;
            true
        }
        None => false,
    };
    known.into_iter().take_while(fits).collect()
}

fn in_all(known: &[&Known]) -> Duration {
    known.iter().map(|known| known.took).sum()
}

/// What fails with the mutant has to pass without it, a moment later.
fn catches(
    oracle: &Oracle,
    mutant: usize,
    known: &[&Known],
    scratch: &Path,
) -> Result<Option<String>> {
    let tests: Vec<_> = known
        .iter()
        .map(|known| known.test.as_str())
        .filter(|test| !test.is_empty())
        .collect();
    let run = Run {
        mutant,
        tests: &tests,
        limit: in_all(known) * 3 + Duration::from_secs(40),
        ..Run::default()
    };
    let End::Failed(reason) = oracle.run(&run, scratch)? else {
        return Ok(None);
    };
    if oracle.seeds.is_none()
        && let End::Failed(_) = oracle.run(&Run { mutant: 0, ..run }, scratch)?
    {
        println!("{} fails without a mutant: {reason}", oracle.name);
        return Ok(None);
    }
    Ok(Some(reason))
}
