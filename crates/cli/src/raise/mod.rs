//! `alti raise`: the stages in their order, each run only if it is not complete or its inputs changed.
//! Killed anywhere and run again, it continues; a stage alone knows how it continues inside.

mod curate;
mod estimate;
mod eval;
mod pack;
mod pretrain;
mod report;
mod sft;
mod tokenizer;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Instant;

use align::tasks::{Item, Tasks};
use corpus::registry::{Package, packages, packages_in};
pub use estimate::refuse;
use ledger::digest::Digest;
use ledger::run::{Run, StageRecord};
use ledger::seed::Seed;
use ledger::{atomic, clock, events};
use owo_colors::OwoColorize;
use serde_json::{Value, json};
use train::{Plan, Size};

use crate::errors::Error;
use crate::progress::Shown;
use crate::recipe::Recipe;
use crate::report::scale::duration;
use crate::{args, interrupt, open};

/// The stages in their order.
pub const STAGES: [&str; 7] = ["curate", "tokenizer", "pack", "pretrain", "sft", "eval", "report"];

/// What a stage sees.
pub struct Context<'a> {
    /// The run.
    pub run: Run,
    /// Every setting.
    pub recipe: &'a Recipe,
    /// The model and its training, by the size and the settings.
    pub plan: Plan,
    /// What everything random follows from.
    pub seed: Seed,
    /// Where work is shown.
    pub shown: &'a Shown,
    /// The packages on this machine, once they were asked for.
    packages: OnceCell<Vec<Package>>,
}

/// What a stage is made from: if this and its outputs did not change, it is not run again.
pub struct Need {
    /// Digests of what it reads, by name.
    pub inputs: BTreeMap<String, Digest>,
    /// Digest of the settings that it obeys.
    pub settings: Digest,
}

/// What a stage made.
pub struct Made {
    /// Files and folders, by their paths in the run.
    pub outputs: Vec<&'static str>,
    /// Figures for the report, an object.
    pub summary: Value,
    /// One line for the person.
    pub line: String,
}

/// One stage.
trait Stage {
    /// What it would be made from now. Errors where an earlier stage is missing.
    fn need(&self, context: &Context) -> Result<Need, Error>;

    /// Does the work. It leaves nothing half written under its outputs' names, and stops soon after
    /// [`interrupt::asked`] with [`Error::Interrupted`].
    fn work(&self, context: &Context, need: &Need) -> Result<Made, Error>;

    /// Forgets what a former, unfinished attempt left, so that the work begins anew.
    fn forget(&self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }
}

fn stage(name: &str) -> Option<Box<dyn Stage>> {
    Some(match name {
        "curate" => Box::new(curate::Curate),
        "tokenizer" => Box::new(tokenizer::TrainTokenizer),
        "pack" => Box::new(pack::Pack),
        "pretrain" => Box::new(pretrain::Pretrain),
        "sft" => Box::new(sft::Sft),
        "eval" => Box::new(eval::Eval),
        "report" => Box::new(report::Report),
        _ => return None,
    })
}

impl Context<'_> {
    /// The digest of an earlier stage's output, as that stage recorded it.
    pub fn made_by(&self, stage: &str, output: &str) -> Result<Digest, Error> {
        self.run.stage(stage).and_then(|record| record.outputs.get(output)).cloned().ok_or_else(|| {
            Error::Usage {
                message: format!("the stage {stage} did not make {output} yet"),
                hint: "leave out --force and --until, or run `alti raise` for the stages before".to_owned(),
            }
        })
    }

    /// [`Context::made_by`] for several, by output name.
    pub fn inputs(&self, made: &[(&str, &str)]) -> Result<BTreeMap<String, Digest>, Error> {
        made.iter().map(|(stage, output)| Ok(((*output).to_owned(), self.made_by(stage, output)?))).collect()
    }

    /// The crates that cargo downloaded to this machine, which tuning and evaluation ask about.
    pub fn packages(&self) -> Result<&[Package], Error> {
        if let Some(packages) = self.packages.get() {
            return Ok(packages);
        }
        // A machine without a registry has no packages; then nothing is asked about them.
        let found = match &self.recipe.curate.registry {
            Some(root) => packages_in(Path::new(root)),
            None => packages(),
        };
        let found = found.unwrap_or_default();
        Ok(self.packages.get_or_init(|| found))
    }

    /// A digest of them. A published version never changes, so names and versions say everything.
    pub fn packages_digest(&self) -> Result<Digest, Error> {
        let names: Vec<_> = self.packages()?.iter().map(|p| (p.name.as_str(), p.version.as_str())).collect();
        Ok(Digest::of_value(&names)?)
    }

    /// The questions of the evaluation, which curation keeps out of the documents.
    pub fn evaluation_items(&self) -> Result<Vec<Item>, Error> {
        let tasks = Tasks::new(self.packages()?, self.recipe.sft.packages);
        Ok(tasks.held_out(self.seed, self.recipe.eval.items_per_kind))
    }

    /// What to say when somebody asked to stop.
    pub fn interrupted(&self) -> Error {
        Error::Interrupted { hint: format!("go on with `{} {}`", crate::program(), again(self.run.root())) }
    }
}

/// The verb and options that continue a run: everything else is read from its recipe.toml.
fn again(root: &Path) -> String {
    let inside = root.parent().is_some_and(|parent| parent == Path::new("runs"));
    match root.file_name() {
        Some(name) if inside => format!("raise --name {}", name.to_string_lossy()),
        _ => format!("raise --out {}", root.display()),
    }
}

/// `alti raise`.
pub fn raise(args: &args::Raise, shown: &Shown) -> Result<(), Error> {
    let (root, given) = settle(args)?;
    let recipe = given.recipe()?;
    let until = args.until.as_deref().map(position).transpose()?.unwrap_or(STAGES.len() - 1);
    let force = args.force.iter().map(|name| position(name)).collect::<Result<Vec<_>, _>>()?;
    let mut context = begin(&root, &recipe, shown)?;
    atomic::write(&context.run.recipe(), given.to_toml()?.as_bytes())?;
    interrupt::listen("stopping at the next safe point; once more to stop at once");
    let kept = kept(&context, until, &force)?;
    let anew: Vec<&str> = force.iter().map(|&index| STAGES[index]).collect();
    estimate::announce(&context, &STAGES[kept..until + 1], &anew);
    let begun = Instant::now();
    for name in &STAGES[..kept] {
        show_kept(&context, name);
    }
    for (i, name) in STAGES.iter().enumerate().take(until + 1).skip(kept) {
        run_stage(&mut context, name, force.contains(&i))?;
    }
    let (root, program) = (root.display(), crate::program());
    shown.line("");
    shown.line(&format!("{} in {}", "done".green().bold(), duration(begun.elapsed().as_secs_f64())));
    if context.run.report().is_file() {
        shown.line(&format!("  report  {}", context.run.report().display()));
    }
    if until >= 4 {
        shown.line(&format!("  talk    {}", format!("{program} chat {root}").bold()));
        shown.line(&format!("  serve   {}", format!("{program} serve {root}").bold()));
    }
    Ok(())
}

/// `alti eval`: the evaluation again, and the report.
pub fn eval(run: &Path, set: &[String], shown: &Shown) -> Result<(), Error> {
    let recorded = run.join("recipe.toml");
    Run::open_read_only(run)?;
    let given = crate::recipe::Given::load(Some(&recorded), set)?;
    let recipe = given.recipe()?;
    let mut context = begin(run, &recipe, shown)?;
    atomic::write(&context.run.recipe(), given.to_toml()?.as_bytes())?;
    interrupt::listen("stopping at the next safe point; once more to stop at once");
    run_stage(&mut context, "eval", true)?;
    run_stage(&mut context, "report", true)
}

/// The run's folder, and the settings: a recipe given now or the one that the run was begun with, and the options on top.
fn settle(args: &args::Raise) -> Result<(PathBuf, crate::recipe::Given), Error> {
    let text = |value: &str| toml::Value::String(value.to_owned()).to_string();
    let mut set = Vec::new();
    if let Some(size) = &args.size {
        set.push(format!("size={}", text(size)));
    }
    if let Some(seed) = args.seed {
        set.push(format!("seed={seed}"));
    }
    if !args.sources.is_empty() {
        let sources: Vec<String> = args.sources.iter().map(|source| text(source)).collect();
        set.push(format!("sources=[{}]", sources.join(", ")));
    }
    set.extend(args.set.iter().cloned());
    let size = crate::recipe::Given::load(args.recipe.as_deref(), &set)?.recipe_unchecked()?.size;
    let root = match (&args.out, &args.name) {
        (Some(out), _) => out.clone(),
        (None, Some(name)) => Path::new("runs").join(name),
        (None, None) => Path::new("runs").join(size),
    };
    let recorded = root.join("recipe.toml");
    let file = args.recipe.clone().or_else(|| recorded.is_file().then_some(recorded));
    Ok((root, crate::recipe::Given::load(file.as_deref(), &set)?))
}

/// Opens the run and writes down every setting.
fn begin<'a>(root: &Path, recipe: &'a Recipe, shown: &'a Shown) -> Result<Context<'a>, Error> {
    let size: Size = recipe.size.parse()?;
    let mut plan = recipe.train.plan(size)?;
    plan.model.vocab_size = match &recipe.tokenizer.path {
        Some(path) => open::tokenizer(path)?.0.vocab_size(),
        None => recipe.tokenizer.vocab_size.unwrap_or(plan.model.vocab_size),
    };
    // Before anything is written: a run that cannot be trained here is not begun.
    refuse(&plan)?;
    let run = Run::open_or_create(root, recipe.seed)?;
    let context = Context { run, recipe, plan, seed: Seed(recipe.seed), shown, packages: OnceCell::new() };
    atomic::write(&context.run.resolved(), recipe.resolved(&context.plan).to_toml()?.as_bytes())?;
    Ok(context)
}

fn position(name: &str) -> Result<usize, Error> {
    STAGES.iter().position(|stage| *stage == name).ok_or_else(|| Error::Usage {
        message: format!("there is no stage {name:?}"),
        hint: format!("the stages are {}", STAGES.join(", ")),
    })
}

/// How many stages, from the first on, are complete and stay as they are. Those behind may still turn out to.
fn kept(context: &Context, until: usize, force: &[usize]) -> Result<usize, Error> {
    for (i, name) in STAGES.iter().enumerate().take(until + 1) {
        // What it reads is not looked at where nothing was made from it.
        let made = context.run.stage(name).is_some() && !force.contains(&i);
        let Some(stage) = stage(name).filter(|_| made) else { return Ok(i) };
        if !is_current(context, name, &stage.need(context)?) {
            return Ok(i);
        }
    }
    Ok(until + 1)
}

/// Whether a stage is complete and its inputs did not change. The report is cheap and always written.
fn is_current(context: &Context, name: &str, need: &Need) -> bool {
    name != "report" && context.run.is_current(name, &need.inputs, &need.settings)
}

fn show_kept(context: &Context, name: &str) {
    let line = context.run.stage(name).and_then(|r| r.summary["line"].as_str().map(str::to_owned));
    let line = format!("{}  (kept)", line.unwrap_or_default());
    context.shown.line(&format!("{} {}", heading(name).bold(), line.dimmed()));
}

fn heading(name: &str) -> String {
    format!("{name:<10}")
}

fn run_stage(context: &mut Context, name: &'static str, force: bool) -> Result<(), Error> {
    let Some(stage) = stage(name) else { return Ok(()) };
    let need = stage.need(context)?;
    if !force && is_current(context, name, &need) {
        show_kept(context, name);
        return Ok(());
    }
    if force {
        stage.forget(context)?;
    }
    let root = context.run.root().to_owned();
    let (started, clock) = (clock::now(), Instant::now());
    events::append(&root, "start", json!({"stage": name, "pid": std::process::id()}))?;
    let made = stage.work(context, &need).and_then(|made| {
        let outputs = context.run.digests(&made.outputs)?;
        Ok((made, outputs))
    });
    let (made, outputs) = match made {
        Ok(made) => made,
        // Training records its own end, with the step.
        Err(error @ (Error::Interrupted { .. } | Error::Train(_))) if matches!(name, "pretrain" | "sft") => {
            return Err(error);
        }
        Err(error) => {
            let kind = if matches!(error, Error::Interrupted { .. }) { "stop" } else { "fault" };
            events::append(&root, kind, json!({"stage": name, "reason": error.to_string()}))?;
            return Err(error);
        }
    };
    // Training that was interrupted counts all its parts.
    let seconds = made.summary["seconds"].as_f64().unwrap_or(0.0).max(clock.elapsed().as_secs_f64());
    let mut summary = made.summary;
    if let Value::Object(fields) = &mut summary {
        fields.insert("line".to_owned(), made.line.clone().into());
    }
    let record =
        StageRecord { inputs: need.inputs, settings: need.settings, outputs, started, seconds, summary };
    context.run.complete(name, record)?;
    events::append(&root, "stage", json!({"stage": name, "seconds": seconds}))?;
    context.shown.line(&format!("{} {}  {}", heading(name).bold(), made.line, duration(seconds).dimmed()));
    if interrupt::flag().load(Ordering::SeqCst) && name != "report" {
        events::append(&root, "stop", json!({"reason": "interrupted", "after": name}))?;
        return Err(context.interrupted());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stage_exists() {
        assert!(STAGES.iter().all(|name| stage(name).is_some()));
        assert!(position("pretrian").unwrap_err().hint().unwrap().contains("pretrain"));
    }

    #[test]
    fn the_command_to_go_on_is_short_where_it_can_be() {
        assert_eq!(again(Path::new("runs/tiny")), "raise --name tiny");
        assert_eq!(again(Path::new("/tmp/x")), "raise --out /tmp/x");
    }
}
