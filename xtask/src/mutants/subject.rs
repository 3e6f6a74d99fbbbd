//! The mutated crate: its files, its mutants, and building it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::list::Mutant;
use super::places::{self, Way};
use super::render::{Rendered, render};
use super::switch;
use super::tree::Tree;
use crate::cargo::{self, cargo};
use crate::process;

/// The target that is the suite.
const SUITE: &str = "conformance";

/// A crate with its mutants in a copy of the workspace.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) package: String,
    pub(crate) tree: Tree,
    target: PathBuf,
    pub(crate) mutants: Vec<Mutant>,
    /// Each file of the crate, relative to the workspace, and what stands in it.
    pub(crate) sources: BTreeMap<String, String>,
    /// How the mutants of each file are switched.
    ways: BTreeMap<String, HashMap<usize, Way>>,
    /// What no compiler takes.
    pub(crate) unviable: BTreeSet<usize>,
    /// What is built by itself.
    pub(crate) alone: BTreeSet<usize>,
}

/// What was built, or what the compiler has against it.
type Compiled<T> = std::result::Result<T, Vec<Message>>;

/// A built suite.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) binary: PathBuf,
}

impl Subject {
    /// Copies the workspace, and finds where the mutants are. Those of modules that only tests have are left out.
    pub(crate) fn new(package: &str, mut mutants: Vec<Mutant>) -> Result<Self> {
        let target = cargo::metadata()?.target_directory;
        let sources = sources(package)?;
        let mut for_tests = BTreeMap::new();
        for (file, source) in &sources {
            for_tests.insert(file.clone(), places::functions_for_tests(source)?);
        }
        mutants.retain(|mutant| {
            let lines = for_tests.get(&mutant.file);
            lines.is_some_and(|lines| !lines.iter().any(|lines| lines.contains(&mutant.span.start.line)))
        });
        let tree = Tree::copy(target.join("mutants").join(package), |file| {
            file.to_str().is_some_and(|file| sources.contains_key(file))
        })?;
        let mut subject = Self {
            package: package.to_owned(),
            tree,
            target,
            mutants,
            sources,
            ways: BTreeMap::new(),
            unviable: BTreeSet::new(),
            alone: BTreeSet::new(),
        };
        subject.find()?;
        Ok(subject)
    }

    fn find(&mut self) -> Result<()> {
        for (file, source) in &self.sources {
            let here = self.mutants.iter().enumerate().filter(|(_, mutant)| mutant.file == *file);
            let ways = places::find(source, here.clone()).with_context(|| format!("cannot read {file}"))?;
            for (index, mutant) in here {
                match ways.get(&index) {
                    None => bail!("cannot find the place of: {}", mutant.name),
                    Some(Way::Unviable) => drop(self.unviable.insert(index)),
                    Some(Way::Alone { .. }) => drop(self.alone.insert(index)),
                    Some(_) => {}
                }
            }
            self.ways.insert(file.clone(), ways);
        }
        Ok(())
    }

    /// Builds the suite with every mutant behind its switch. Those that do not compile are sorted out on the way.
    pub(crate) fn build(&mut self) -> Result<Built> {
        loop {
            let rendered = self.write(None)?;
            match self.compile()? {
                Ok(built) => return Ok(built),
                Err(errors) => {
                    let before = (self.unviable.len(), self.alone.len());
                    self.blame(&rendered, &errors)?;
                    eprintln!(
                        "mutants: {} do not compile, {} are to be built by themselves",
                        self.unviable.len(),
                        self.alone.len()
                    );
                    if before == (self.unviable.len(), self.alone.len()) {
                        bail!("the mutated {} does not compile:\n{}", self.package, errors[0].text());
                    }
                }
            }
        }
    }

    /// Builds the crate's own tests, beside the suite, with every mutant behind its switch that the suite had.
    pub(crate) fn build_own_tests(&self) -> Result<Vec<Built>> {
        self.write(None)?;
        match self.compile_tests(&["--tests"])? {
            Ok(built) => {
                Ok(built.into_iter().filter(|(name, _)| name != SUITE).map(|(_, built)| built).collect())
            }
            Err(errors) => {
                bail!("the tests of the mutated {} do not compile:\n{}", self.package, errors[0].text())
            }
        }
    }

    /// Builds the suite with one mutant on for good, if it compiles.
    pub(crate) fn build_alone(&self, mutant: usize) -> Result<Option<Built>> {
        self.write(Some(mutant))?;
        Ok(self.compile()?.ok())
    }

    /// Writes all files of the crate, with switches.
    fn write(&self, alone: Option<usize>) -> Result<BTreeMap<String, Rendered>> {
        let mut all = BTreeMap::new();
        for (file, source) in &self.sources {
            let left_out = |mutant: &usize| {
                Some(*mutant) != alone && (self.unviable.contains(mutant) || self.alone.contains(mutant))
            };
            let mut ways = self.ways[file].clone();
            ways.retain(|mutant, _| !left_out(mutant));
            if let Some(way) = alone.and_then(|alone| ways.get_mut(&alone)) {
                *way = Way::Alone { cut: cut(source, way, &self.mutants[alone.unwrap_or_default()]) };
            }
            let rendered = render(source, &ways, &self.mutants, alone);
            let mut text = rendered.text.clone();
            if file.ends_with("/src/lib.rs") {
                text.push_str(switch::MODULE);
            }
            self.tree.write(Path::new(file), text.as_bytes())?;
            all.insert(file.clone(), rendered);
        }
        Ok(all)
    }

    /// Says of each error whose it is.
    fn blame(&mut self, rendered: &BTreeMap<String, Rendered>, errors: &[Message]) -> Result<()> {
        for error in errors {
            let of = |find: &dyn Fn(&Rendered, &Range<usize>) -> BTreeSet<usize>, primary: bool| {
                let spans = error.spans.iter().filter(|span| span.is_primary || !primary);
                let found = spans.filter_map(|span| {
                    Some(find(rendered.get(&span.file_name)?, &(span.byte_start..span.byte_end)))
                });
                found.flatten().collect::<BTreeSet<_>>()
            };
            let mut culprits = of(&Rendered::owners, true);
            if culprits.is_empty() {
                culprits = of(&Rendered::owners, false);
            }
            if culprits.is_empty() {
                let suspects = of(&Rendered::neighbours, true);
                if suspects.is_empty() {
                    bail!("an error that is no mutant's:\n{}", error.text());
                }
                self.alone.extend(suspects);
            }
            self.unviable.extend(culprits);
        }
        Ok(())
    }

    fn compile(&self) -> Result<Compiled<Built>> {
        Ok(match self.compile_tests(&["--test", SUITE])? {
            Ok(built) => {
                let suite = built.into_iter().find(|(name, _)| name == SUITE);
                Ok(suite.context("cargo does not say where the suite is")?.1)
            }
            Err(errors) => Err(errors),
        })
    }

    /// Builds these targets, and says of each what it is called.
    fn compile_tests(&self, targets: &[&str]) -> Result<Compiled<Vec<(String, Built)>>> {
        let mut command = self.cargo("test");
        // Its lock file has other versions of its own packages, and nothing else that is new.
        command.args(["--no-run", "--offline", "--all-features", "--message-format=json"]);
        command.args(["--package", &self.package]).args(targets);
        let (status, output) = process::capture(command)?;
        let lines: Vec<Line> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if status.success() {
            let built = |line: Line| Some((line.target?.name, Built { binary: line.executable? }));
            return Ok(Ok(lines.into_iter().filter_map(built).collect()));
        }
        let errors: Vec<_> = lines
            .into_iter()
            .filter_map(|line| line.message)
            .filter(|message| message.level == "error" && !message.spans.is_empty())
            .collect();
        if errors.is_empty() {
            bail!("cannot build the suite of {}:\n{output}", self.package);
        }
        Ok(Err(errors))
    }

    /// Cargo, at the copy of the workspace.
    fn cargo(&self, subcommand: &str) -> Command {
        let mut command = cargo(subcommand);
        command.current_dir(&self.tree.root).env("CARGO_TARGET_DIR", &self.target);
        command
    }
}

/// What `cargo mutants` would cut out.
fn cut(source: &str, way: &Way, mutant: &Mutant) -> Range<usize> {
    match way {
        Way::Expression { cut, .. } | Way::Alone { cut } => cut.clone(),
        _ => super::places::bytes(source, mutant.span),
    }
}

/// The files of the crate's library that are not there for its own tests.
fn sources(package: &str) -> Result<BTreeMap<String, String>> {
    let mut sources = BTreeMap::new();
    let mut folders = vec![PathBuf::from(package).join("src")];
    let mut for_tests = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(cargo::root().join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(cargo::root().join(&path))?;
                let stem = path.file_stem().unwrap_or_default();
                let below = if stem == "lib" || stem == "mod" { folder.clone() } else { folder.join(stem) };
                for_tests
                    .extend(places::modules_for_tests(&source)?.into_iter().map(|name| below.join(name)));
                sources.insert(path.to_string_lossy().into_owned(), source);
            }
        }
    }
    sources.retain(|file, _| {
        let module = Path::new(file).with_extension("");
        !for_tests.iter().any(|tests| module.starts_with(tests))
    });
    Ok(sources)
}

/// A line of what cargo writes.
#[derive(Debug, Deserialize)]
struct Line {
    message: Option<Message>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

/// What the compiler says.
#[derive(Debug, Deserialize)]
struct Message {
    level: String,
    spans: Vec<MessageSpan>,
    rendered: Option<String>,
}

impl Message {
    fn text(&self) -> &str {
        self.rendered.as_deref().unwrap_or("the compiler does not say what it is")
    }
}

#[derive(Debug, Deserialize)]
struct MessageSpan {
    file_name: String,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}
