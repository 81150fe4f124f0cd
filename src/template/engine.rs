//! Rendering a compiled set. Answers are judged once, when they change; of a file, only what
//! reads a changed one is rendered anew ([`super::memo`]).

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use handlebars::{
    BlockContext, Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext,
    RenderError, RenderErrorReason, Renderable, ScopedJson, Template,
};
use serde_json::{Map, Value, json};

use super::helpers::{EachHelper, FragmentHelper, as_text, describe, failed};
use super::judge::Quarantined;
use super::listeners::Listeners;
use super::load::{self, Loaded};
use super::memo::Memo;
use super::outline::Outlines;
use super::place::{Lines, last_tag_place, tag_place};
use super::recorder::{Ended, LeftOut, Pen, Recorder, State};
use super::slots::Slots;
use super::source_map::{From, Item, SourceMap};
use super::writer::{END, LineMarks, OPERATOR, Stop, VALUE, Writer};
use super::{Grammar, Options, Outcome, Rendering, Source, Texts};
use crate::catalog::secrets::{SecretPart, Secrets};
use crate::catalog::{Known, Query};
use crate::diagnostic::{Diagnostic, Place, nearest};

/// The stack of a rendering: blocks within partials within partials, each as deep as is allowed, take
/// a quarter of it in a debug build. Only what is used of it is real memory.
const STACK: usize = 64 << 20;

/// The code of the diagnostic that a rendering could not begin.
pub const NO_THREAD: &str = "no-thread";

/// The code of the diagnostic that the texts of former templates are not known, or are of other files.
pub const NO_TEMPLATES: &str = "no-templates";

/// How often a rendering is made anew because of where it listens.
const LISTENER_ROUNDS: usize = 3;

/// How often answers are recalled that only others show to be wanted.
const RECALL_ROUNDS: usize = 8;

/// More fields are not told when one is missing.
const FIELDS_SHOWN: usize = 20;

/// The context's field with the settings' parameters.
pub const PARAMETERS: &str = "parameters";

/// The files of a rendering.
#[derive(Default)]
struct Run {
    texts: Vec<String>,
    /// What of each came from secrets.
    secrets: Vec<Vec<SecretPart>>,
    /// The marks of their lines.
    marks: Vec<Vec<LineMarks>>,
}

/// Compiled templates and what they were last rendered from.
pub struct TemplateSet {
    loaded: Loaded,
    /// Texts of the templates, which hold no secret.
    public: Arc<[String]>,
    registry: Handlebars<'static>,
    /// The same with positions written into the text; made when first wanted.
    marked: Option<Handlebars<'static>>,
    recorder: Arc<Recorder>,
    context: Context,
    /// What is remembered of each file.
    memos: Vec<Memo>,
    /// Who has which slot of the helper `slots`, by the last complete rendering.
    assigned: Slots,
    /// Whether what cannot be rendered refuses the whole.
    strict: bool,
}

/// What everybody who reads a message may know: the templates, and the paths of files.
fn public(loaded: &Loaded, options: &Options) -> Arc<[String]> {
    let sources = loaded.sources.iter();
    let templates = sources.flat_map(|one| [one.text.clone(), one.path.display().to_string()]);
    let files = options.destinations.iter();
    templates
        .chain(files.map(|path| path.display().to_string()))
        .collect()
}

impl std::fmt::Debug for TemplateSet {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TemplateSet").finish_non_exhaustive()
    }
}

impl TemplateSet {
    /// Compiles templates and partials. All that is wrong is told at once.
    pub fn load(
        templates: Vec<Source>,
        partials: Vec<Source>,
        options: Options,
    ) -> Result<(TemplateSet, Vec<Diagnostic>), Vec<Diagnostic>> {
        let (loaded, warnings) = load::load(templates, partials, &options)?;
        let rewritten = loaded.rewritten(false);
        let recorder = Arc::new(Recorder::new(options, rewritten.plans));
        let registry = make_registry(rewritten.templates, &recorder);
        let parameters = Value::Object(recorder.options().parameters.clone());
        let set = TemplateSet {
            memos: (0..loaded.templates).map(|_| Memo::default()).collect(),
            public: public(&loaded, recorder.options()),
            loaded,
            registry,
            marked: None,
            recorder,
            context: Context::from(json!({ PARAMETERS: parameters })),
            assigned: Slots::default(),
            strict: false,
        };
        Ok((set, warnings))
    }

    /// What is in the templates and partials, without rendering them.
    pub fn outlines(&self) -> Outlines {
        self.loaded.outlines()
    }

    /// What this set was compiled from.
    pub fn texts(&self) -> Texts {
        let (templates, partials) = self.loaded.sources.split_at(self.loaded.templates);
        Texts {
            templates: templates.to_vec(),
            partials: partials.to_vec(),
            destinations: self.recorder.options().destinations.clone(),
        }
    }

    /// The queries that can be read off the templates.
    pub fn literal_queries(&self) -> &BTreeSet<Query> {
        &self.loaded.literal
    }

    /// From now on, an item of the catalog that cannot be rendered refuses the whole rendering instead
    /// of being left out: for those who look for faults.
    pub fn be_strict(&mut self) {
        self.strict = true;
    }

    /// Who has which slot of the helper `slots`. Newly loaded templates go on from what the ones
    /// before them knew.
    pub fn slots(&self) -> &Slots {
        &self.assigned
    }

    /// Goes on from these slots.
    pub fn set_slots(&mut self, slots: Slots) {
        self.assigned = slots;
    }

    /// Reads slots that are not known yet back from texts that were rendered before.
    pub fn remember_slots<'a>(&mut self, texts: impl Iterator<Item = &'a str>) {
        self.assigned.add_missing(&Slots::read(texts));
    }

    /// Renders every template from these answers.
    ///
    /// An instance that is an address on which the result listens is left out, which may change
    /// where it listens; so it is rendered until that stays.
    pub fn render(&mut self, answers: &BTreeMap<Query, Known>) -> Result<Outcome, Vec<Diagnostic>> {
        self.recorder.take_in(answers);
        let before = self.assigned.clone();
        let mut all = Listeners::default();
        for round in 0..=LISTENER_ROUNDS {
            let outcome = self.render_once()?;
            let Outcome::Complete(rendering) = &outcome else {
                return Ok(outcome);
            };
            let listeners = self.listeners(&rendering.files);
            all = all.and(&listeners);
            // A listener that exists only as long as its instance is left in: both stay out.
            let wanted = match round {
                LISTENER_ROUNDS => return Ok(outcome),
                round if round + 1 == LISTENER_ROUNDS => all.clone(),
                _ => listeners,
            };
            if !self.recorder.listens(wanted) {
                return Ok(outcome);
            }
            self.assigned.clone_from(&before);
        }
        self.render_once()
    }

    fn listeners(&self, files: &[String]) -> Listeners {
        let files = files.iter().zip(self.loaded.sources.iter());
        let texts = files
            .filter(|(_, source)| source.grammar == Grammar::Haproxy)
            .map(|(text, _)| text.as_str());
        Listeners::of(texts, self.recorder.options())
    }

    fn render_once(&mut self) -> Result<Outcome, Vec<Diagnostic>> {
        let mut memos = std::mem::take(&mut self.memos);
        let result = self.run(false, &mut memos);
        self.memos = memos;
        let mut state = self.recorder.state();
        let run = result.map_err(|wrong| {
            let secrets = self.secrets(&state);
            let hidden = wrong.into_iter().map(|one| one.without(&secrets));
            hidden.collect::<Vec<Diagnostic>>()
        })?;
        if !state.needed.is_empty() || !state.absent.is_empty() {
            return Ok(Outcome::Incomplete {
                needed: state.needed.clone(),
                absent: state.absent.clone(),
                used: state.asked(),
            });
        }
        let secrets = self.secrets(&state).written(&run.texts, run.secrets);
        let left_out = std::mem::take(&mut state.left_out);
        let refused = std::mem::take(&mut state.refused);
        let judged = state.used().flat_map(|(_, slot)| &slot.quarantined);
        let quarantined = judged
            .cloned()
            .chain(left_out.iter().map(|one| self.left_out(one, &secrets)))
            .chain(refused.into_iter().map(|(what, reason)| Quarantined {
                query: None,
                what,
                reason: secrets.hide(&reason),
            }))
            .collect();
        // Slots of names that are not used any more go with the backend they were in.
        self.assigned = std::mem::take(&mut state.assigned);
        Ok(Outcome::Complete(Rendering {
            files: run.texts,
            used: state.asked(),
            quarantined,
            crowded: std::mem::take(&mut state.crowded),
            // They name services, hosts and paths, which are no secrets.
            noted: std::mem::take(&mut state.noted),
            files_read: state.files.keys().cloned().collect(),
            secrets,
        }))
    }

    /// What no message about the last rendering may show.
    fn secrets(&self, state: &State) -> Secrets {
        Secrets::new(
            state.used().map(|(_, slot)| slot.known().answer).collect(),
            state.files.values().cloned().collect(),
            &self.recorder.options().secrets,
            &self.public,
        )
    }

    /// An item that could not be rendered, in words.
    fn left_out(&self, one: &LeftOut, secrets: &Secrets) -> Quarantined {
        let wrong = self.diagnose(
            0,
            &one.error,
            one.stop,
            one.last.as_ref(),
            one.near.as_ref(),
        );
        let message = wrong.message.trim_end_matches('.');
        let place = wrong
            .place
            .as_ref()
            .map_or(String::new(), |place| format!("{place}: "));
        Quarantined {
            query: one.query.clone(),
            what: one.what.clone(),
            reason: format!(
                "the template cannot write it ({place}{})",
                secrets.hide(message)
            ),
        }
    }

    /// How many fragments were taken again so far.
    #[cfg(test)]
    pub fn taken_again(&self) -> usize {
        self.recorder.state().taken_again
    }

    /// Where each line of the last rendering came from, by a second rendering with marks. Empty
    /// maps when that does not give the same text.
    pub fn source_maps(&mut self, files: &[String]) -> Vec<SourceMap> {
        let none = || vec![SourceMap::default(); files.len()];
        self.make_marked();
        let mut memos = std::mem::take(&mut self.memos);
        let result = self.run(true, &mut memos);
        self.memos = memos;
        let Ok(Run { texts, marks, .. }) = result else {
            return none();
        };
        let from = self.from();
        texts
            .iter()
            .zip(marks)
            .zip(files)
            .map(|((text, marks), file)| {
                // The file may have more at its end: the marker of its revision.
                let mut lines = file.lines();
                let same = text
                    .lines()
                    .all(|line| lines.next().is_some_and(|next| next.trim() == line.trim()));
                match same {
                    true => SourceMap::new(marks, Arc::clone(&from)),
                    false => SourceMap::default(),
                }
            })
            .collect()
    }

    /// The texts of the `count` templates and of the partials that they name.
    pub fn texts_in_use(&self, count: usize) -> impl Iterator<Item = &str> + Clone {
        let sources = &self.loaded.sources;
        let (templates, partials) = sources.split_at(count.min(sources.len()));
        let mut used: Vec<&Source> = templates.iter().collect();
        let mut next = 0;
        while let Some(source) = used.get(next).copied() {
            let calls: Vec<&str> = source
                .text
                .split('>')
                .skip(1)
                .map(str::trim_start)
                .collect();
            for partial in partials {
                let names = |call: &&str| {
                    // A computed name may be any.
                    call.starts_with('(') || call.trim_start_matches('"').starts_with(&partial.name)
                };
                let known = used.iter().any(|one| std::ptr::eq(*one, partial));
                if !known && calls.iter().any(names) {
                    used.push(partial);
                }
            }
            next += 1;
        }
        used.into_iter().map(|source| source.text.as_str())
    }

    /// What these answers make, and where each line of it comes from. `recall` gives an answer that is
    /// wanted besides. `None` when that does not do for a whole rendering. What was rendered last stays
    /// what it was.
    pub fn made_from(
        &mut self,
        mut answers: BTreeMap<Query, Known>,
        recall: impl Fn(&Query) -> Option<Known>,
    ) -> Option<(Vec<String>, Vec<SourceMap>)> {
        let current: BTreeMap<Query, Known> = self.recorder.known();
        self.make_marked();
        let mut memos = std::mem::take(&mut self.memos);
        let mut made = None;
        for _ in 0..RECALL_ROUNDS {
            self.recorder.take_in(&answers);
            made = self.run(true, &mut memos).ok();
            let needed = self.recorder.state().needed.clone();
            let recalled: Vec<(Query, Known)> = needed
                .into_iter()
                .filter_map(|query| Some((query.clone(), recall(&query)?)))
                .collect();
            if recalled.is_empty() {
                break;
            }
            answers.extend(recalled);
        }
        self.memos = memos;
        let incomplete = self.recorder.is_incomplete();
        let from = self.from();
        self.recorder.take_in(&current);
        let Run { texts, marks, .. } = made.filter(|_| !incomplete)?;
        let maps = marks
            .into_iter()
            .map(|marks| SourceMap::new(marks, Arc::clone(&from)));
        Some((texts, maps.collect()))
    }

    /// What the marks of the last rendering mean.
    fn from(&self) -> Arc<From> {
        let state = self.recorder.state();
        Arc::new(From {
            sources: Arc::clone(&self.loaded.sources),
            spots: Arc::clone(&self.loaded.spots),
            calls: state.calls.clone(),
            items: state.items.clone(),
        })
    }

    /// Where a query is asked, if it is: the first of these tags.
    pub fn asked_at(&mut self, query: &Query) -> Option<Place> {
        self.make_marked();
        let mut memos = std::mem::take(&mut self.memos);
        // However it ends, it tells what was asked.
        let _ = self.run(true, &mut memos);
        self.memos = memos;
        let state = self.recorder.state();
        let asks = |spot: &&load::Spot| {
            let mut calls = spot.calls.iter();
            calls.any(|call| state.calls.get(call) == Some(query))
        };
        // What stands inside a block that asks has the block's calls, too, and comes after it.
        let spot = self.loaded.spots.iter().find(asks)?;
        let source = self.loaded.sources.get(spot.source)?;
        let lines = Lines::new(&source.text);
        Some(tag_place(source, &lines, spot.line, spot.column))
    }

    fn make_marked(&mut self) {
        if self.marked.is_none() {
            let templates = self.loaded.rewritten(true).templates;
            self.marked = Some(make_registry(templates, &self.recorder));
        }
    }

    /// Renders all files, on a stack of which it is known that the deepest templates fit.
    fn run(&self, marked: bool, memos: &mut [Memo]) -> Result<Run, Vec<Diagnostic>> {
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("render".to_owned())
                .stack_size(STACK)
                .spawn_scoped(scope, || self.run_here(marked, memos))
                .map_err(|error| {
                    let message = format!("No thread can be started to render: {error}.");
                    let help = "Give it more processes (TasksMax of systemd, pids of a container) or memory.";
                    vec![Diagnostic::error(NO_THREAD, message).help(help)]
                })?
                .join()
                .unwrap_or_else(|_| {
                    let message = "The rendering failed in a way that it should not.";
                    let help = "Nothing was changed; the next change of the catalog tries again.";
                    Err(vec![Diagnostic::error("render", message).help(help)])
                })
        })
    }

    fn run_here(&self, marked: bool, memos: &mut [Memo]) -> Result<Run, Vec<Diagnostic>> {
        let registry = match &self.marked {
            Some(registry) if marked => registry,
            _ => &self.registry,
        };
        let options = self.recorder.options();
        let deadline = Instant::now() + options.timeout;
        self.recorder
            .state()
            .begin(&self.assigned, deadline, marked);
        let mut made = Run::default();
        let mut wrong = Vec::new();
        for (index, memo) in memos.iter_mut().enumerate() {
            {
                let mut state = self.recorder.state();
                state.memo = std::mem::take(memo);
                if !marked && let Some((text, secrets)) = state.unchanged() {
                    *memo = std::mem::take(&mut state.memo);
                    made.texts.push(text);
                    made.secrets.push(secrets);
                    made.marks.push(Vec::new());
                    continue;
                }
            }
            let (assigned, crowded) = {
                let state = self.recorder.state();
                (state.assigned.clone(), state.crowded.len())
            };
            let mut result = self.file(index, registry, deadline, marked, false);
            let failed = matches!(&result, Ok((Err(_), ended)) if matches!(ended.stop, None | Some(Stop::Refused(_))));
            if failed && !self.strict && !self.recorder.is_incomplete() {
                // Once more, without what fails.
                let mut state = self.recorder.state();
                state.assigned = assigned;
                state.crowded.truncate(crowded);
                drop(state);
                result = self.file(index, registry, deadline, marked, true);
            }
            match result {
                Ok((Ok(()), ended)) => {
                    if !marked && !failed {
                        *memo = ended.memo;
                        memo.finish(&ended.text, &ended.secrets, ended.peak);
                    } else if marked {
                        *memo = ended.memo;
                    }
                    made.texts.push(ended.text);
                    made.secrets.push(ended.secrets);
                    made.marks.push(ended.lines);
                }
                // With something unknown, helpers were given nothing; what they say of it is moot.
                Ok((Err(_), ended)) if self.recorder.is_incomplete() => {
                    if marked {
                        *memo = ended.memo;
                    }
                }
                Ok((Err(error), ended)) => {
                    let state = self.recorder.state();
                    let (last, near) = (state.last.as_ref(), state.near.as_ref());
                    let mut told = self.diagnose(index, &error, ended.stop, last, near);
                    told.causes.extend(state.culprit.as_ref().map(Item::cause));
                    wrong.push(told);
                }
                Err(()) => wrong.push(
                    Diagnostic::error("panic", "A helper failed in a way that it should not.")
                        .at(crate::diagnostic::Place::file(&self.loaded.sources[index].path))
                        .help("Please report this with the template and the catalog; nothing was changed."),
                ),
            }
        }
        self.recorder.state().end();
        if wrong.is_empty() {
            Ok(made)
        } else {
            Err(wrong)
        }
    }

    /// Renders one file; an error when a helper panicked. With `isolating`, items of the catalog that
    /// cannot be rendered are left out, and nothing is remembered.
    fn file(
        &self,
        index: usize,
        registry: &Handlebars<'static>,
        deadline: Instant,
        marked: bool,
        isolating: bool,
    ) -> Result<(Result<(), RenderError>, Ended), ()> {
        let mut pen = Pen(&self.recorder);
        {
            let mut state = self.recorder.state();
            state.isolating = isolating;
            let grammar = self.loaded.sources[index].grammar;
            let max_output = self.recorder.options().max_output;
            let writer = Writer::new(grammar, max_output, deadline, marked);
            state.begin_file(writer, &mut pen);
        }
        let name = load::root_name(index);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let template = registry
                .get_template(&name)
                .ok_or_else(|| failed("The template is not registered."))?;
            let mut context = RenderContext::new(template.name.as_ref());
            template.render(registry, &self.context, &mut context, &mut pen)?;
            self.recorder.end_word()
        }));
        let mut state = self.recorder.state();
        state.isolating = false;
        let ended = state.end_file();
        result.map(|result| (result, ended)).map_err(|_| ())
    }

    /// What went wrong and where, in the words of a person who wrote the template.
    fn diagnose(
        &self,
        index: usize,
        error: &RenderError,
        stop: Option<Stop>,
        last: Option<&(String, String)>,
        near: Option<&(String, String)>,
    ) -> Diagnostic {
        let diagnostic = match (stop, error.reason()) {
            // The value itself may be a secret, and this is logged.
            (Some(Stop::Refused(refusal)), _) => {
                let path = match last {
                    Some((path, _)) if !path.is_empty() => format!(" of `{path}`"),
                    _ => String::new(),
                };
                Diagnostic::error(
                    "hostile-value",
                    format!("The value{path} {}.", refusal.reason()),
                )
                .help(refusal.help())
            }
            (Some(Stop::TooLarge), _) => Diagnostic::error(
                "output-too-large",
                format!(
                    "The rendered file is larger than {} bytes.",
                    self.recorder.options().max_output
                ),
            )
            .help("Raise templates.max_output if this is meant."),
            (Some(Stop::TooSlow), _) => Diagnostic::error(
                "too-slow",
                format!(
                    "Rendering took longer than {:?}.",
                    self.recorder.options().timeout
                ),
            )
            .help("Use {{servers …}} for long lists, or raise templates.timeout."),
            (None, RenderErrorReason::MissingVariable(path)) => {
                let path = path.as_deref().unwrap_or("this");
                let diagnostic =
                    Diagnostic::error("missing-value", format!("There is no `{path}` here."));
                let last = path.rsplit(['.', '/']).next().unwrap_or_default();
                match (super::helpers::absent_field(last), near) {
                    (Some(help), _) => diagnostic.help(help),
                    (None, Some((missing, near))) if missing == path => {
                        diagnostic.help(near.clone())
                    }
                    _ => diagnostic,
                }
            }
            (None, RenderErrorReason::HelperNotFound(name)) => {
                Diagnostic::error("unknown-helper", format!("There is no helper `{name}`."))
            }
            (None, RenderErrorReason::InvalidParamType(_)) => Diagnostic::error(
                "wrong-type",
                "The parameter here is nothing that can be gone through: a list or an object is wanted.",
            ),
            (None, RenderErrorReason::Other(sentence)) => {
                Diagnostic::error("helper", sentence.clone())
            }
            (None, reason) => Diagnostic::error("render", format!("{reason}.")),
        };
        let source = error
            .template_name
            .as_deref()
            .and_then(|name| self.loaded.source_named(name))
            .unwrap_or(&self.loaded.sources[index]);
        let line = error.line_no.unwrap_or(0);
        let column = error.column_no.unwrap_or(0);
        // What an empty value leaves is seen in the text behind its tag.
        let place = match stop {
            Some(Stop::Refused(_)) => last_tag_place(source, line, column),
            _ => tag_place(source, &Lines::new(&source.text), line, column),
        };
        diagnostic.at(place)
    }
}

/// Handlebars with our helpers and a set's templates.
fn make_registry(
    templates: Vec<(String, Template)>,
    recorder: &Arc<Recorder>,
) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    // Values are escaped by the writer, which knows where they land.
    registry.register_escape_fn(handlebars::no_escape);
    super::helpers::register(&mut registry, recorder);
    registry.register_helper(
        "each",
        Box::new(EachHelper {
            recorder: Arc::clone(recorder),
        }),
    );
    registry.register_helper(
        load::FRAGMENT,
        Box::new(FragmentHelper {
            recorder: Arc::clone(recorder),
        }),
    );
    registry.register_helper(load::ROOT, Box::new(RootHelper));
    registry.register_helper(
        load::EMIT,
        Box::new(EmitHelper {
            recorder: Arc::clone(recorder),
        }),
    );
    registry.register_helper(
        load::TEXT,
        Box::new(TextHelper {
            recorder: Arc::clone(recorder),
        }),
    );
    for (name, template) in templates {
        registry.register_template(&name, template);
    }
    registry
}

/// Around a whole template: `this` is an empty object there, so that including a partial copies
/// nothing.
struct RootHelper;

impl HelperDef for RootHelper {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let mut block = BlockContext::new();
        block.set_base_value(Value::Object(Map::new()));
        state.push_block(block);
        let result = helper.template().map_or(Ok(()), |template| {
            template.render(registry, context, state, out)
        });
        state.pop_block();
        result
    }
}

/// `{{x}}` as the engine rewrites it: a value that is escaped by where it lands.
struct EmitHelper {
    recorder: Arc<Recorder>,
}

impl HelperDef for EmitHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        state: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let Some(param) = helper.param(0) else {
            return Ok(ScopedJson::Derived("".into()));
        };
        let path = param.relative_path().map_or("", String::as_str);
        if param.is_value_missing() {
            self.note_nearest(path, context, state);
            return Err(RenderErrorReason::MissingVariable(Some(path.to_owned())).into());
        }
        let Some(text) = as_text(param.value()) else {
            if param.value().is_null() && self.recorder.is_incomplete() {
                return Ok(ScopedJson::Derived("".into()));
            }
            return Err(failed(format!(
                "The value{} is {}, which cannot be written as text. Use {{{{#each}}}}, {{{{join}}}}, {{{{toJSON}}}} or one of its fields.",
                if path.is_empty() {
                    String::new()
                } else {
                    format!(" of `{path}`")
                },
                describe(param.value())
            )));
        };
        if text.contains(['\u{1}', '\u{2}', '\u{3}']) {
            let path = if path.is_empty() {
                String::new()
            } else {
                format!(" of `{path}`")
            };
            return Err(failed(format!(
                "The value{path} holds a control character."
            )));
        }
        let mark = self.recorder.mark(helper);
        let is_operators = helper.param(2).is_some_and(|param| param.value() == true);
        let origin = is_operators.then_some(OPERATOR.to_string());
        let framed = format!("{VALUE}{}{text}{END}", origin.unwrap_or_default());
        // A truth value tells nothing.
        let framed = match param.value() {
            Value::Bool(_) => framed,
            _ => Recorder::as_secret(helper, framed),
        };
        let framed = format!("{mark}{framed}");
        self.recorder.state().last = Some((path.to_owned(), text));
        Ok(ScopedJson::Derived(framed.into()))
    }
}

impl EmitHelper {
    /// Says which fields there are, or the one like the missing one, where its path was still good.
    fn note_nearest(&self, path: &str, context: &Context, state: &RenderContext<'_, '_>) {
        let (before, last) = path.rsplit_once(['.', '/']).unwrap_or(("this", path));
        let Ok(parent) = state.evaluate(context, before) else {
            return;
        };
        let Some(fields) = parent.as_json().as_object() else {
            return;
        };
        let known = || {
            let names = fields.keys().map(String::as_str);
            names.filter(|name| !name.starts_with('@'))
        };
        let help = match nearest(last, known()) {
            Some(near) => {
                let whole = format!("{}{near}", &path[..path.len() - last.len()]);
                format!("Did you mean `{whole}`?")
            }
            None if before == "this" && fields.is_empty() => return,
            None => {
                let (count, shown): (usize, Vec<&str>) =
                    (known().count(), known().take(FIELDS_SHOWN).collect());
                let names = match (count, count > shown.len()) {
                    (0, _) => "nothing".to_owned(),
                    (_, false) => shown.join(", "),
                    (_, true) => format!("{}, …", shown.join(", ")),
                };
                format!(
                    "What is there: {names}. Where it may be missing, write {{{{default {path} \"…\"}}}}."
                )
            }
        };
        self.recorder.state().near = Some((path.to_owned(), help));
    }
}

/// Text that is written as it is: server lines, and what the template calls `raw`.
struct TextHelper {
    recorder: Arc<Recorder>,
}

impl HelperDef for TextHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let text = helper
            .param(0)
            .and_then(|param| as_text(param.value()))
            .unwrap_or_default();
        let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
        if text.contains(control) {
            return Err(failed(
                "The text holds a control character, which not even `raw` writes.",
            ));
        }
        let text = self.recorder.mark_lines(&text).unwrap_or(text);
        let mark = self.recorder.mark(helper);
        let text = Recorder::as_secret(helper, text);
        Ok(ScopedJson::Derived(format!("{mark}{text}").into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken;

    impl HelperDef for Broken {
        fn call<'reg: 'rc, 'rc>(
            &self,
            _: &Helper<'rc>,
            _: &'reg Handlebars<'reg>,
            _: &'rc Context,
            _: &mut RenderContext<'reg, 'rc>,
            _: &mut dyn Output,
        ) -> HelperResult {
            panic!("canary")
        }
    }

    // D07
    #[test]
    fn a_helper_that_panics_refuses_only_that_rendering() {
        let template = |text: &str| Source {
            name: "t".into(),
            path: "t.hbs".into(),
            text: text.into(),
            grammar: Grammar::Haproxy,
        };
        let templates = vec![template("x {{toUpper \"a\"}}"), template("y")];
        let (mut set, _) = TemplateSet::load(templates, Vec::new(), Options::default()).unwrap();
        let complete = |set: &mut TemplateSet| match set.render(&BTreeMap::new()) {
            Ok(Outcome::Complete(rendering)) => Ok(rendering.files),
            Ok(incomplete) => panic!("{incomplete:?}"),
            Err(wrong) => Err(wrong),
        };
        set.registry.register_helper("toUpper", Box::new(Broken));
        for _ in 0..2 {
            let wrong = complete(&mut set).unwrap_err();
            assert_eq!((wrong.len(), wrong[0].code), (1, "panic"));
            assert!(!format!("{wrong:?}").contains("canary"));
        }
        super::super::helpers::register(&mut set.registry, &set.recorder);
        assert_eq!(
            complete(&mut set),
            Ok(vec!["x A".to_owned(), "y".to_owned()])
        );
    }
}
