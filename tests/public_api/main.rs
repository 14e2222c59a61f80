//! The public API, as a listing that is committed: what is added, taken away or changed is seen in review.
//!
//! The listing is made from the sources, so it is the same with every compiler: public items with their
//! signatures, public fields, variants, implementations of traits, and under which paths they are exported.
//! `unreachable_pub`, a lint of the crate, sees to it that `pub` means public. After a change on purpose:
//! `KIOCB_BLESS=1 cargo test --test public_api`, and read the difference.

mod scan;
#[path = "../kit/sources.rs"]
mod sources;

use scan::{Item, items, parts, plain};
use sources::rust_files;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates that must not be seen from outside.
const FOREIGN: [&str; 6] = ["libc", "nix", "parking_lot", "log", "loom", "bytes"];

/// What is no one else's business: the engine, its tools, the simulation and its kernel have nothing that is
/// public, and the generated bindings are exported by name. A private type of theirs would hide a public one
/// of the same name.
const INSIDE: [&str; 6] = [
    "src/engine",
    "src/simulation",
    "src/sync",
    "src/sync.rs",
    "src/sys/bindings",
    "src/sys/seeded",
];

struct Source {
    /// `buf/slice`; empty for lib.rs.
    module: String,
    items: Vec<Item>,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = rust_files(&root.join("src"));
    files.retain(|file| {
        !INSIDE
            .iter()
            .any(|inside| file.starts_with(root.join(inside)))
    });
    let source = |file: &PathBuf| {
        let module = file.strip_prefix(root.join("src")).unwrap();
        let module = module.with_extension("");
        let module = module
            .to_str()
            .unwrap()
            .trim_end_matches("mod")
            .trim_matches('/');
        Source {
            module: if module == "lib" { "" } else { module }.to_owned(),
            items: items(&plain(&fs::read_to_string(file).unwrap())),
        }
    };
    files.iter().map(source).collect()
}

/// The lines of the listing.
#[derive(Default)]
struct Listing {
    lines: BTreeSet<String>,
    names: Names,
}

/// What is known of all files before any of them is listed.
#[derive(Clone, Default)]
struct Names {
    /// Types and traits of this crate that are public.
    public: BTreeSet<String>,
    /// Those that are not, of which nothing is listed.
    private: BTreeSet<String>,
    /// The modules that are public; the root is the empty one.
    modules: BTreeSet<String>,
}

impl Names {
    fn of(sources: &[Source]) -> Names {
        let all = || sources.iter().flat_map(|source| &source.items);
        let root = sources.iter().find(|source| source.module.is_empty());
        let root = root.map(|root| &*root.items).unwrap_or_default();
        let modules = root
            .iter()
            .filter_map(|item| item.header.strip_prefix("pub mod "));
        Names {
            public: all().filter_map(|item| public_type(&item.header)).collect(),
            private: all()
                .filter_map(|item| private_type(&item.header))
                .collect(),
            modules: modules.chain([""]).map(str::to_owned).collect(),
        }
    }
}

impl Listing {
    fn of(sources: &[Source]) -> Listing {
        let mut listing = Listing {
            names: Names::of(sources),
            ..Listing::default()
        };
        for source in sources {
            source
                .items
                .iter()
                .for_each(|item| listing.add(source, item));
        }
        listing
    }

    fn add(&mut self, source: &Source, item: &Item) {
        let header = &*item.header;
        if let Some(import) = header.strip_prefix("pub use ") {
            self.add_exports(&source.module, import);
        } else if header.starts_with("impl") || header.starts_with("unsafe impl") {
            self.add_impl(item);
        } else if header.starts_with("macro_rules!") {
            self.add_macro(source, item);
        } else if let Some(module) = header.strip_prefix("pub mod ") {
            self.add_export(&source.module, module);
        } else if header.starts_with("pub ") {
            let name = public_type(header);
            name.iter()
                .for_each(|name| self.add_export(&source.module, name));
            self.add_public(item);
        }
    }

    fn add_exports(&mut self, module: &str, import: &str) {
        let names = match import.split_once('{') {
            Some((_, group)) => group.trim_end_matches('}'),
            None => import.rsplit("::").next().unwrap_or(import),
        };
        for name in names.split(',') {
            self.add_export(module, name.trim());
        }
    }

    fn add_export(&mut self, module: &str, name: &str) {
        if self.names.modules.contains(module) && !name.is_empty() {
            let path = ["kiocb", module, name].into_iter();
            let path: Vec<_> = path.filter(|part| !part.is_empty()).collect();
            self.lines.insert(format!("export {}", path.join("::")));
        }
    }

    fn add_public(&mut self, item: &Item) {
        let header = without_value(&item.header);
        let Some(name) = public_type(header) else {
            self.lines.insert(header.to_owned());
            return;
        };
        let shown = match header.split_once('(') {
            Some((before, _)) if header.starts_with("pub struct") => before,
            _ => header,
        };
        let notes = attributes_that_count(&item.attributes);
        self.lines.insert(format!("{notes}{shown}"));
        let body = item.body.as_deref().unwrap_or_default();
        if header.starts_with("pub enum") {
            self.extend(&name, parts(body).iter().map(|part| part.header.clone()));
        } else if header.starts_with("pub struct") {
            let fields = parts(body).into_iter().map(|part| part.header);
            self.extend(&name, fields.filter(|field| field.starts_with("pub ")));
        } else {
            let members = items(body).into_iter();
            self.extend(
                &name,
                members.map(|item| without_value(&item.header).to_owned()),
            );
        }
    }

    /// An implementation: of a trait, or the methods of a type.
    fn add_impl(&mut self, item: &Item) {
        let header = &*item.header;
        let bare = header.split(" where ").next().unwrap_or(header);
        let (ofs, own) = bare.rsplit_once(" for ").unwrap_or((bare, bare));
        let is_ours = |word: &str| self.names.public.contains(word) || word == "$name";
        let is_hidden = |word: &str| self.names.private.contains(word);
        if !words(bare).any(is_ours) || is_hidden(head(own)) || is_hidden(head(ofs)) {
            return;
        }
        if bare != own {
            self.lines.insert(header.to_owned());
            return;
        }
        let members = items(item.body.as_deref().unwrap_or_default()).into_iter();
        let public = members.filter(|item| item.header.starts_with("pub "));
        self.extend(
            header,
            public.map(|item| without_value(&item.header).to_owned()),
        );
    }

    /// What the macro makes, under the names that it has there.
    fn add_macro(&mut self, source: &Source, item: &Item) {
        for arm in items(item.body.as_deref().unwrap_or_default()) {
            for made in items(arm.body.as_deref().unwrap_or_default()) {
                self.add(source, &made);
            }
        }
    }

    fn extend(&mut self, owner: &str, members: impl Iterator<Item = String>) {
        self.lines
            .extend(members.map(|member| format!("{owner} {{ {member} }}")));
    }
}

/// The name, if this is a type or trait that is public.
fn public_type(header: &str) -> Option<String> {
    type_name(header.strip_prefix("pub ")?)
}

/// The name, if this is a type or trait that is not.
fn private_type(header: &str) -> Option<String> {
    let restricted = header
        .strip_prefix("pub(")
        .and_then(|rest| rest.split_once(") "));
    type_name(restricted.map_or(header, |(_, rest)| rest))
}

fn type_name(rest: &str) -> Option<String> {
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
    let keywords = ["struct ", "enum ", "trait ", "type "];
    let rest = keywords
        .iter()
        .find_map(|keyword| rest.strip_prefix(keyword))?;
    words(rest).next().map(str::to_owned)
}

/// The last name of the path that a type or trait begins with: of `impl<S> fmt::Debug` it is `Debug`.
fn head(text: &str) -> &str {
    let text = text
        .trim_start_matches("unsafe ")
        .trim_start_matches("impl");
    let mut depth = 0_i32;
    let generics = text.char_indices().find(|&(_, c)| {
        depth += i32::from(c == '<') - i32::from(c == '>');
        depth == 0
    });
    let path = match (text.starts_with('<'), generics) {
        (true, Some((end, _))) => &text[end + 1..],
        _ => text,
    };
    let path = path
        .split(['<', ' ', '[', '('])
        .find(|part| !part.is_empty());
    path.and_then(|path| words(path).last()).unwrap_or_default()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
        .filter(|word| !word.is_empty())
}

/// A constant's value is no part of its signature.
fn without_value(header: &str) -> &str {
    match header.split_once(" = ") {
        Some((before, _)) if header.contains("const ") => before,
        _ => header,
    }
}

fn attributes_that_count(attributes: &str) -> String {
    let derives = attributes
        .split("#[")
        .filter(|one| one.starts_with("derive(") || one.starts_with("non_exhaustive"));
    derives
        .map(|one| format!("#[{} ", one.trim_end()))
        .collect()
}

fn listing_of_the_sources() -> String {
    let lines = Listing::of(&sources()).lines;
    lines.into_iter().map(|line| line + "\n").collect()
}

#[test]
fn the_public_api_is_as_listed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/public_api/listing.txt");
    let now = listing_of_the_sources();
    if std::env::var_os("KIOCB_BLESS").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let listed = fs::read_to_string(&path).unwrap();
    let (now, listed): (BTreeSet<_>, BTreeSet<_>) =
        (now.lines().collect(), listed.lines().collect());
    let added = now.difference(&listed).map(|line| format!("+ {line}"));
    let gone = listed.difference(&now).map(|line| format!("- {line}"));
    let changes: Vec<_> = added.chain(gone).collect();
    assert!(
        changes.is_empty(),
        "the public API has changed; if on purpose, KIOCB_BLESS=1 cargo test --test public_api\n{}",
        changes.join("\n")
    );
}

/// A name of another crate in a signature would make that crate's versions ours.
#[test]
fn no_type_of_another_crate_is_in_the_public_api() {
    let sources = sources();
    let names = Names::of(&sources);
    let mut faults = Vec::new();
    // The feature `bytes` is these types, and nothing else is in that file.
    for source in sources.iter().filter(|one| one.module != "buf/bytes") {
        let lines = BTreeSet::new();
        let names = names.clone();
        let mut here = Listing { lines, names };
        source.items.iter().for_each(|item| here.add(source, item));
        let imported: BTreeSet<_> = source.items.iter().flat_map(imported_names).collect();
        let found = here.lines.iter().filter(|line| is_foreign(line, &imported));
        faults.extend(found.map(|line| format!("{}: {line}", source.module)));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn is_foreign(line: &str, imported: &BTreeSet<String>) -> bool {
    let of_a_crate = |name: &str| line.contains(&format!("{name}::"));
    FOREIGN.iter().any(|name| of_a_crate(name)) || words(line).any(|word| imported.contains(word))
}

/// What a file calls the things of other crates.
fn imported_names(item: &Item) -> Vec<String> {
    let import = item.header.strip_prefix("use ").unwrap_or_default();
    let mut names = words(import);
    if !names.next().is_some_and(|first| FOREIGN.contains(&first)) {
        return Vec::new();
    }
    let names = names.filter(|word| !["self", "as"].contains(word));
    names.map(str::to_owned).collect()
}

#[test]
fn what_is_inside_has_nothing_public() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = rust_files(&root.join("src/engine"));
    assert!(!files.is_empty());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let public = text
            .lines()
            .find(|line| line.trim_start().starts_with("pub "));
        assert_eq!(public, None, "{}", file.display());
    }
}
