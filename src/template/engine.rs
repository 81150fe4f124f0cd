//! Rendering a compiled set. The answers live in one context that is kept from rendering to
//! rendering; only those that changed are made anew, and helpers hand them out by reference.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use handlebars::{
    BlockContext, Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext,
    RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::{Map, Value, json};

use super::answers::{self, Quarantined};
use super::helpers::{as_text, describe, failed, shorten};
use super::load::{self, Loaded};
use super::slots::{Crowded, Group, Slots};
use super::source_map::{Origin, Position, SourceMap};
use super::writer::{END, LineMarks, POSITION, Stop, VALUE, Writer};
use super::{Options, Outcome, Rendering, Source};
use crate::catalog::{Known, Query};
use crate::diagnostic::{Diagnostic, nearest};

/// The context's field with the answers.
pub const ANSWERS: &str = "answers";
/// The context's field with the settings' parameters.
pub const PARAMETERS: &str = "parameters";

/// The texts of a rendering, and the marks of their lines.
type Run = (Vec<String>, Vec<Vec<LineMarks>>);

/// Compiled templates and what they were last rendered from.
pub struct TemplateSet {
    loaded: Loaded,
    registry: Handlebars<'static>,
    /// The same with positions written into the text; made when first wanted.
    marked: Option<Handlebars<'static>>,
    recorder: Arc<Recorder>,
    context: Context,
    slots: BTreeMap<Query, Slot>,
    next_slot: u64,
    /// Who has which slot of the helper `slots`, by the last complete rendering.
    assigned: Slots,
}

/// An answer in the context.
#[derive(Debug, Clone)]
struct Slot {
    name: String,
    revision: u64,
    absent: bool,
    quarantined: Vec<Quarantined>,
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
        let recorder = Arc::new(Recorder {
            state: Mutex::default(),
            options,
        });
        let registry = make_registry(&loaded, &recorder, false);
        let parameters = Value::Object(recorder.options.parameters.clone());
        let context = Context::from(json!({ ANSWERS: {}, PARAMETERS: parameters }));
        let set = TemplateSet {
            loaded,
            registry,
            marked: None,
            recorder,
            context,
            slots: BTreeMap::new(),
            next_slot: 0,
            assigned: Slots::default(),
        };
        Ok((set, warnings))
    }

    /// The queries that can be read off the templates.
    pub fn literal_queries(&self) -> &BTreeSet<Query> {
        &self.loaded.literal
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
    pub fn render(&mut self, answers: &BTreeMap<Query, Known>) -> Result<Outcome, Vec<Diagnostic>> {
        self.take_in(answers);
        let (files, _) = self.run(false)?;
        let mut state = self.recorder.state();
        if !state.needed.is_empty() || !state.absent.is_empty() {
            return Ok(Outcome::Incomplete {
                needed: state.needed.clone(),
                absent: state.absent.clone(),
                used: state.used.clone(),
            });
        }
        let quarantined = state
            .used
            .iter()
            .filter_map(|query| self.slots.get(query))
            .flat_map(|slot| slot.quarantined.iter().cloned())
            .collect();
        // Slots of names that are not used any more go with the backend they were in.
        self.assigned = std::mem::take(&mut state.assigned);
        Ok(Outcome::Complete(Rendering {
            files,
            used: state.used.clone(),
            quarantined,
            crowded: std::mem::take(&mut state.crowded),
            files_read: state.files.clone(),
        }))
    }

    /// Where each line of the last rendering came from, by a second rendering with marks. Empty
    /// maps when that does not give the same text.
    pub fn source_maps(&mut self, files: &[String]) -> Vec<SourceMap> {
        let none = || vec![SourceMap::default(); files.len()];
        if self.marked.is_none() {
            self.marked = Some(make_registry(&self.loaded, &self.recorder, true));
        }
        let Ok((texts, marks)) = self.run(true) else {
            return none();
        };
        let calls = self.recorder.state().calls.clone();
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
                if same {
                    self.source_map(marks, &calls)
                } else {
                    SourceMap::default()
                }
            })
            .collect()
    }

    fn source_map(&self, marks: Vec<LineMarks>, calls: &BTreeMap<u64, Query>) -> SourceMap {
        let position = |id: usize, offset: usize| {
            let spot = self.loaded.spots.get(id)?;
            let source = self.loaded.sources.get(spot.source)?;
            Some(Position {
                template: source.name.clone(),
                path: source.path.clone(),
                line: spot.line + offset,
                column: if offset == 0 { spot.column } else { 1 },
            })
        };
        SourceMap::new(
            marks
                .into_iter()
                .map(|line| Origin {
                    chain: line
                        .begun
                        .into_iter()
                        .flat_map(|(id, offset, includes)| {
                            [position(id, offset)]
                                .into_iter()
                                .chain(includes.into_iter().map(|id| position(id, 0)))
                                .collect::<Vec<_>>()
                        })
                        .flatten()
                        .collect(),
                    queries: line
                        .touched
                        .iter()
                        .filter_map(|id| self.loaded.spots.get(*id))
                        .flat_map(|spot| &spot.calls)
                        .filter_map(|call| calls.get(call).cloned())
                        .collect(),
                })
                .collect(),
        )
    }

    /// Brings the context up to date: only answers with a new revision are made anew.
    fn take_in(&mut self, answers: &BTreeMap<Query, Known>) {
        let Some(values) = self
            .context
            .data_mut()
            .get_mut(ANSWERS)
            .and_then(Value::as_object_mut)
        else {
            return;
        };
        self.slots.retain(|query, slot| {
            let keep = answers.contains_key(query);
            if !keep {
                values.remove(&slot.name);
            }
            keep
        });
        for (query, known) in answers {
            let current = self.slots.get(query);
            if current.is_some_and(|slot| slot.revision == known.revision) {
                continue;
            }
            let name = match current {
                Some(slot) => slot.name.clone(),
                None => {
                    self.next_slot += 1;
                    self.next_slot.to_string()
                }
            };
            let host_names = self.recorder.options.host_names;
            let (value, quarantined) = answers::value(query, &known.answer, host_names);
            let slot = Slot {
                name: name.clone(),
                revision: known.revision,
                absent: value.is_null(),
                quarantined,
            };
            values.insert(name, value);
            self.slots.insert(query.clone(), slot);
        }
    }

    fn run(&self, marked: bool) -> Result<Run, Vec<Diagnostic>> {
        let registry = match &self.marked {
            Some(registry) if marked => registry,
            _ => &self.registry,
        };
        self.recorder.begin(&self.slots, &self.assigned, marked);
        let deadline = Instant::now() + self.recorder.options.timeout;
        let mut files = Vec::new();
        let mut marks = Vec::new();
        let mut wrong = Vec::new();
        for index in 0..self.loaded.templates {
            let grammar = self.loaded.sources[index].grammar;
            let max = self.recorder.options.max_output;
            let mut writer = Writer::new(grammar, max, deadline, marked);
            let name = load::root_name(index);
            let result = catch_unwind(AssertUnwindSafe(|| match registry.get_template(&name) {
                Some(template) => template.render(
                    registry,
                    &self.context,
                    &mut RenderContext::new(template.name.as_ref()),
                    &mut writer,
                ),
                None => Err(failed("The template is not registered.")),
            }));
            match result {
                Ok(Ok(())) => {
                    let (text, lines) = writer.finish();
                    files.push(text);
                    marks.push(lines);
                }
                // With something unknown, helpers were given nothing; what they say of it is moot.
                Ok(Err(_)) if self.recorder.is_incomplete() => {}
                Ok(Err(error)) => wrong.push(self.diagnose(index, &error, writer.stop)),
                Err(_) => wrong.push(
                    Diagnostic::error("panic", "A helper failed in a way that it should not.")
                        .at(crate::diagnostic::Place::file(&self.loaded.sources[index].path))
                        .help("Please report this with the template and the catalog; nothing was changed."),
                ),
            }
        }
        if wrong.is_empty() {
            Ok((files, marks))
        } else {
            Err(wrong)
        }
    }

    /// What went wrong and where, in the words of a person who wrote the template.
    fn diagnose(&self, index: usize, error: &RenderError, stop: Option<Stop>) -> Diagnostic {
        let state = self.recorder.state();
        let last = state.last.as_ref();
        let diagnostic = match (stop, error.reason()) {
            (Some(Stop::Refused(refusal)), _) => {
                let (path, value) = last.map_or(("", ""), |(path, value)| (path, value));
                let path = if path.is_empty() {
                    String::new()
                } else {
                    format!(" of `{path}`")
                };
                Diagnostic::error(
                    "hostile-value",
                    format!("The value `{}`{path} {}.", shorten(value), refusal.reason()),
                )
                .help(refusal.help())
            }
            (Some(Stop::TooLarge), _) => Diagnostic::error(
                "output-too-large",
                format!(
                    "The rendered file is larger than {} bytes.",
                    self.recorder.options.max_output
                ),
            )
            .help("Raise templates.max_output if this is meant."),
            (Some(Stop::TooSlow), _) => Diagnostic::error(
                "too-slow",
                format!(
                    "Rendering took longer than {:?}.",
                    self.recorder.options.timeout
                ),
            )
            .help("Use {{servers …}} for long lists, or raise templates.timeout."),
            (None, RenderErrorReason::MissingVariable(path)) => {
                let path = path.as_deref().unwrap_or("this");
                let diagnostic =
                    Diagnostic::error("missing-value", format!("There is no `{path}` here."));
                match &state.near {
                    Some((missing, near)) if missing == path => {
                        diagnostic.help(format!("Did you mean `{near}`?"))
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
        diagnostic.at(super::place::tag_place(source, line, column))
    }
}

/// Handlebars with our helpers and a set's templates.
fn make_registry(loaded: &Loaded, recorder: &Arc<Recorder>, marked: bool) -> Handlebars<'static> {
    let mut registry = Handlebars::new();
    registry.set_strict_mode(true);
    // Values are escaped by the writer, which knows where they land.
    registry.register_escape_fn(handlebars::no_escape);
    super::helpers::register(&mut registry, recorder);
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
    for (name, template) in loaded.rewritten(marked).0 {
        registry.register_template(&name, template);
    }
    registry
}

/// Remembers what a rendering asked.
pub struct Recorder {
    state: Mutex<State>,
    options: Options,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<Query, (String, bool)>,
    used: BTreeSet<Query>,
    needed: BTreeSet<Query>,
    absent: BTreeSet<Query>,
    /// The last query of each call in the templates.
    calls: BTreeMap<u64, Query>,
    files: BTreeSet<PathBuf>,
    /// The path and text of the last value written.
    last: Option<(String, String)>,
    /// A path that was missing, and the nearest field.
    near: Option<(String, String)>,
    marked: bool,
    /// The slots before this rendering, and by it.
    before: Slots,
    assigned: Slots,
    crowded: Vec<Crowded>,
}

/// Whether an answer is in the context.
pub enum Lookup {
    /// Not yet.
    Unknown,
    /// In this slot.
    Slot(String),
}

impl Recorder {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing here that the next rendering does not replace.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What templates may do.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn begin(&self, slots: &BTreeMap<Query, Slot>, before: &Slots, marked: bool) {
        *self.state() = State {
            slots: slots
                .iter()
                .map(|(query, slot)| (query.clone(), (slot.name.clone(), slot.absent)))
                .collect(),
            marked,
            before: before.clone(),
            ..State::default()
        };
    }

    /// Notes a query; `demanded` says that its absence keeps the rendering from being used.
    pub fn look_up(&self, query: &Query, call: Option<u64>, demanded: bool) -> Lookup {
        let mut state = self.state();
        if !state.used.contains(query) {
            state.used.insert(query.clone());
        }
        if state.marked
            && let Some(call) = call
        {
            state.calls.insert(call, query.clone());
        }
        match state.slots.get(query).cloned() {
            None => {
                state.needed.insert(query.clone());
                Lookup::Unknown
            }
            Some((slot, absent)) => {
                if absent && demanded {
                    state.absent.insert(query.clone());
                }
                Lookup::Slot(slot)
            }
        }
    }

    /// The slots of a name as they were.
    pub fn slots_before(&self, name: &str) -> Group {
        self.state().before.group(name)
    }

    /// Notes the slots of a name; false when this rendering has assigned them already.
    pub fn assign_slots(&self, name: &str, spare: usize, group: Group) -> bool {
        let mut state = self.state();
        state.crowded.extend(group.crowded(name, spare));
        state.assigned.insert(name, group)
    }

    /// Notes a file.
    pub fn read_file(&self, path: PathBuf) {
        self.state().files.insert(path);
    }

    /// Whether something was missing so far, so that the text will be thrown away.
    fn is_incomplete(&self) -> bool {
        let state = self.state();
        !state.needed.is_empty() || !state.absent.is_empty()
    }

    /// The mark of a position, when positions are wanted.
    fn mark(&self, helper: &Helper<'_>) -> String {
        match helper.param(1).and_then(|at| at.value().as_u64()) {
            Some(at) if self.state().marked => format!("{POSITION}{at}{END}"),
            _ => String::new(),
        }
    }
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
            return Err(failed(format!(
                "The value `{}` holds a control character.",
                shorten(&text)
            )));
        }
        let mark = self.recorder.mark(helper);
        let framed = format!("{mark}{VALUE}{text}{END}");
        self.recorder.state().last = Some((path.to_owned(), text));
        Ok(ScopedJson::Derived(framed.into()))
    }
}

impl EmitHelper {
    /// Looks for a field like the missing one, where its path was still good.
    fn note_nearest(&self, path: &str, context: &Context, state: &RenderContext<'_, '_>) {
        let (before, last) = path.rsplit_once(['.', '/']).unwrap_or(("this", path));
        let Ok(parent) = state.evaluate(context, before) else {
            return;
        };
        if let Some(fields) = parent.as_json().as_object()
            && let Some(near) = nearest(last, fields.keys().map(String::as_str))
        {
            let whole = format!("{}{near}", &path[..path.len() - last.len()]);
            self.recorder.state().near = Some((path.to_owned(), whole));
        }
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
            return Err(failed(format!(
                "The text `{}` holds a control character, which not even `raw` writes.",
                shorten(&text)
            )));
        }
        let mark = self.recorder.mark(helper);
        Ok(ScopedJson::Derived(format!("{mark}{text}").into()))
    }
}
