//! Reading templates and partials into compiled form, and refusing what must not be rendered. All
//! that is wrong in all files is told at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use handlebars::template::{HelperTemplate, Parameter, TemplateElement as Element};
use handlebars::{Template, TemplateErrorReason};

use super::closed::Plan;
use super::flow::{Flow, Flows};
use super::helpers::{self, Action, Entry};
use super::outline::Outlines;
use super::place::{Lines, explain, name_place, tag_place};
use super::rewrite::{Rewriter, block, head, is_name};
use super::scan;
use super::scope::{self, Bound, Scope};
use super::{Options, Source, pieces};
use crate::catalog::Query;
use crate::diagnostic::{Diagnostic, Place, nearest};

/// Our own helpers in rewritten templates; no template can name them.
pub const ROOT: &str = "@root-block";
/// Writes a value.
pub const EMIT: &str = "@emit";
/// Writes trusted text.
pub const TEXT: &str = "@text";
/// Around what may be taken again.
pub const FRAGMENT: &str = "@fragment";

/// Compiled sources.
pub struct Loaded {
    /// Templates first, then partials.
    pub sources: Arc<[Source]>,
    /// How many of them are templates.
    pub templates: usize,
    /// As compiled, in the order of the sources.
    parsed: Vec<Template>,
    /// Where each element stands, by its number.
    pub spots: Arc<[Spot]>,
    /// Whether inline partials are defined anywhere.
    inline: bool,
    /// Names of metadata that is secret.
    secrets: Vec<String>,
    /// What of secrets the includes pass.
    included: Flow,
    /// The queries with literal parameters that the templates reach.
    pub literal: BTreeSet<Query>,
}

/// Sources as they are registered.
#[derive(Default)]
pub struct Rewritten {
    /// Each with its name.
    pub templates: Vec<(String, Template)>,
    /// Where each element stands.
    pub spots: Vec<Spot>,
    /// What loops read, by their positions.
    pub plans: BTreeMap<usize, Plan>,
    /// What of secrets the includes pass.
    included: Flow,
}

/// Where an element of a template stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The number of the source.
    pub source: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// The numbers of the query calls in it and in the blocks around it.
    pub calls: Vec<u64>,
}

/// The name under which a whole template is registered.
pub fn root_name(index: usize) -> String {
    format!("@template {index}")
}

impl Loaded {
    /// The templates and partials as they are registered, with their positions.
    pub fn rewritten(&self, marked: bool) -> Rewritten {
        let mut made = Rewritten::default();
        let mut next_call = 0;
        let partials = self.sources.iter().zip(&self.parsed).skip(self.templates);
        let partials = partials
            .map(|(source, parsed)| (source.name.as_str(), parsed))
            .filter(|_| !self.inline)
            .collect();
        for (source, parsed) in self.parsed.iter().enumerate() {
            let root = source < self.templates;
            let mut template = parsed.clone();
            let mut rewriter = Rewriter {
                text: &self.sources[source].text,
                lines: &Lines::new(&self.sources[source].text),
                source,
                spots: &mut made.spots,
                next_call: &mut next_call,
                around: Vec::new(),
                marked,
                root,
                inline: self.inline,
                partials: &partials,
                flows: Flows::new(&self.secrets, self.included, !root),
                plans: &mut made.plans,
            };
            rewriter.template(&mut template);
            made.included = made.included.max(rewriter.flows.passed);
            made.templates.push(if root {
                (root_name(source), in_root(template))
            } else {
                (self.sources[source].name.clone(), template)
            });
        }
        made
    }

    /// What is in the templates and partials.
    pub fn outlines(&self) -> Outlines {
        Outlines::new(Arc::clone(&self.sources), self.templates, &self.parsed)
    }

    /// The source of a name as the engine reports it.
    pub fn source_named(&self, name: &str) -> Option<&Source> {
        let template = (0..self.templates).find(|index| root_name(*index) == name);
        match template {
            Some(index) => self.sources.get(index),
            None => self.sources[self.templates..]
                .iter()
                .find(|source| source.name == name),
        }
    }
}

/// Puts a template into a block of ours, so that `this` is empty at its top.
fn in_root(template: Template) -> Template {
    let mut outer = Template::default();
    outer.name.clone_from(&template.name);
    let helper = block(ROOT, template);
    outer
        .elements
        .extend(helper.map(|helper| Element::HelperBlock(Box::new(helper))));
    outer
}

/// Compiles and checks.
pub fn load(
    templates: Vec<Source>,
    partials: Vec<Source>,
    options: &Options,
) -> Result<(Loaded, Vec<Diagnostic>), Vec<Diagnostic>> {
    let count = templates.len();
    let sources: Vec<Source> = templates.into_iter().chain(partials).collect();
    let lines: Vec<Lines> = sources
        .iter()
        .map(|source| Lines::new(&source.text))
        .collect();
    let mut check = Check {
        sources: &sources,
        lines: &lines,
        templates: count,
        errors: Vec::new(),
        warnings: Vec::new(),
        uses: BTreeMap::new(),
        queries: vec![BTreeSet::new(); sources.len()],
        current: 0,
        node: Node::Source(0),
        inline: BTreeSet::new(),
        options,
        scope: Scope::Unknown,
        bound: Vec::new(),
    };
    let parsed: Vec<Option<Template>> = (0..sources.len())
        .map(|index| check.source(index, options))
        .collect();
    check.partials(options);
    let literal = check.reached_queries();
    let Check {
        errors,
        warnings,
        inline,
        ..
    } = check;
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut loaded = Loaded {
        sources: sources.into(),
        templates: count,
        parsed: parsed.into_iter().flatten().collect(),
        spots: Arc::default(),
        inline: !inline.is_empty(),
        secrets: options.secrets.clone(),
        included: Flow::None,
        literal,
    };
    // What is included may include others.
    let mut made = loaded.rewritten(false);
    while made.included > loaded.included {
        loaded.included = made.included;
        made = loaded.rewritten(false);
    }
    loaded.spots = made.spots.into();
    Ok((loaded, warnings))
}

/// What can include a partial, and be included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Source(usize),
    /// An inline partial, by its name; names are taken to be one for all files.
    Inline(String),
}

/// A use of a partial.
struct Use {
    name: String,
    source: usize,
    line: usize,
    column: usize,
    /// `{{#> x}}` has a fallback.
    fallback: bool,
}

struct Check<'a> {
    sources: &'a [Source],
    lines: &'a [Lines],
    templates: usize,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    uses: BTreeMap<Node, Vec<Use>>,
    queries: Vec<BTreeSet<Query>>,
    current: usize,
    node: Node,
    inline: BTreeSet<String>,
    options: &'a Options,
    /// What `this` is here.
    scope: Scope,
    /// Names that blocks around bind.
    bound: Vec<Bound>,
}

impl Check<'_> {
    fn source(&mut self, index: usize, options: &Options) -> Option<Template> {
        let source = &self.sources[index];
        let errors_before = self.errors.len();
        self.current = index;
        self.node = Node::Source(index);
        // A partial sees what is around it.
        self.scope = match index < self.templates {
            true => Scope::Nothing,
            false => Scope::Unknown,
        };
        if source.text.len() > options.max_template {
            self.errors.push(
                Diagnostic::error(
                    "template-too-large",
                    format!(
                        "The template has {} bytes, and templates.max_template allows {}.",
                        source.text.len(),
                        options.max_template
                    ),
                )
                .at(Place::file(&source.path))
                .help("Raise templates.max_template, or move parts of the template into partials."),
            );
            return None;
        }
        if let Some(at) = source
            .text
            .find(|letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r'))
        {
            self.errors.push(
                Diagnostic::error(
                    "control-character",
                    "The template holds a control character.",
                )
                .at(Place::bytes(&source.path, &source.text, at..at + 1))
                .help("Take it out."),
            );
        }
        let (tags, faults) = scan::scan(&source.text, options.max_nesting);
        let broken = !faults.is_empty();
        for fault in faults {
            self.errors.push(explain(source, fault));
        }
        if broken {
            return None;
        }
        let name = if index < self.templates {
            root_name(index)
        } else {
            source.name.clone()
        };
        match pieces::compile(&source.text, &tags, name) {
            Ok(template) => {
                self.template(&template);
                (self.errors.len() == errors_before).then_some(template)
            }
            Err(error) => {
                let (line, column) = error.pos().unwrap_or((0, 0));
                let message = match error.reason() {
                    TemplateErrorReason::InvalidSyntax(_) => {
                        "This tag cannot be understood.".to_owned()
                    }
                    other => format!("{other}."),
                };
                self.errors.push(
                    Diagnostic::error("syntax", message)
                        .at(tag_place(source, &self.lines[index], line, column))
                        .help("A tag holds a path or a helper and its parameters: {{Address}}, {{join Tags \",\"}}, {{#each (service \"web\")}}."),
                );
                None
            }
        }
    }

    fn template(&mut self, template: &Template) {
        for (index, element) in template.elements.iter().enumerate() {
            let (line, column) = template
                .mapping
                .get(index)
                .map_or((0, 0), |mapping| (mapping.0, mapping.1));
            self.element(element, line, column);
        }
    }

    fn element(&mut self, element: &Element, line: usize, column: usize) {
        let source = &self.sources[self.current];
        let lines = &self.lines[self.current];
        let place = || tag_place(source, lines, line, column);
        match element {
            Element::Expression(helper) => self.expression(helper, line, column),
            Element::HtmlExpression(_) => self.errors.push(
                Diagnostic::error(
                    "unescaped-output",
                    "`{{{…}}}` would write a value without escaping.",
                )
                .at(place())
                .help("Write {{…}}, or {{raw …}} if the value may add words and lines."),
            ),
            Element::HelperBlock(helper) => {
                self.call(helper, line, column, true);
                self.condition(helper, line, column);
                let (outer, bound) = (self.scope, self.bound.len());
                self.scope = scope::inside(helper, outer);
                self.bound.extend(scope::binds(helper));
                if let Some(inner) = &helper.template {
                    self.template(inner);
                }
                self.scope = outer;
                self.bound.truncate(bound);
                if let Some(inner) = &helper.inverse {
                    self.template(inner);
                }
            }
            Element::DecoratorExpression(decorator) | Element::DecoratorBlock(decorator) => {
                let name = match decorator.params.first() {
                    Some(Parameter::Literal(name)) if head(&decorator.name) == "inline" => {
                        name.as_str().map(str::to_owned)
                    }
                    _ => None,
                };
                let Some(name) = name else {
                    self.errors.push(
                        Diagnostic::error(
                            "unknown-decorator",
                            format!("There is no decorator `{}`.", head(&decorator.name)),
                        )
                        .at(place())
                        .help("Only {{#*inline \"name\"}}…{{/inline}} exists."),
                    );
                    return;
                };
                self.inline.insert(name.clone());
                let outer = std::mem::replace(&mut self.node, Node::Inline(name));
                let scope = std::mem::replace(&mut self.scope, Scope::Unknown);
                if let Some(inner) = &decorator.template {
                    self.template(inner);
                }
                self.scope = scope;
                self.node = outer;
            }
            Element::PartialExpression(partial) | Element::PartialBlock(partial) => {
                let fallback = matches!(element, Element::PartialBlock(_));
                let name = match &partial.name {
                    Parameter::Subexpression(_) => {
                        self.errors.push(
                            Diagnostic::error(
                                "computed-partial",
                                "The name of a partial must be written out.",
                            )
                            .at(place())
                            .help("Use {{#if}} to choose between partials."),
                        );
                        return;
                    }
                    Parameter::Literal(name) => name.as_str().unwrap_or_default().to_owned(),
                    other => head(other).to_owned(),
                };
                for parameter in partial.params.iter().chain(partial.hash.values()) {
                    self.parameter(parameter, line, column);
                }
                if name != "@partial-block" {
                    self.uses.entry(self.node.clone()).or_default().push(Use {
                        name,
                        source: self.current,
                        line,
                        column,
                        fallback,
                    });
                }
                if let Some(inner) = &partial.template {
                    self.template(inner);
                }
            }
            _ => {} // Text and comments.
        }
    }

    fn expression(&mut self, helper: &HelperTemplate, line: usize, column: usize) {
        if is_name(helper) && !self.is_call(head(&helper.name)) {
            // A path or a literal; whether it is there shows when it is rendered.
            self.parameter(&helper.name, line, column);
            return;
        }
        self.call(helper, line, column, false);
    }

    /// Whether a name alone in a tag calls a helper. One that wants parameters may be the name of
    /// something else, where what is there is not known for certain.
    fn is_call(&self, name: &str) -> bool {
        helpers::find(name).is_some_and(|entry| {
            let bound = self.bound.iter().any(|(bound, _)| bound == name);
            entry.stands_alone() || !(bound || self.scope == Scope::Unknown)
        })
    }

    /// A condition on what is never there is silently false, even in strict mode.
    fn condition(&mut self, helper: &HelperTemplate, line: usize, column: usize) {
        let Some((name, known)) = scope::never_there(helper, self.scope, &self.bound) else {
            return;
        };
        let place = self.name_place(line, column, name);
        let warning = Diagnostic::warning(
            "never-there",
            format!("There is no `{name}` here, so this condition is always the same."),
        )
        .at(place);
        self.warnings.push(match nearest(name, known) {
            Some(near) => warning.help(format!("Did you mean `{near}`?")),
            None => {
                warning.help("Name a field of what is gone through, or a name that a block binds.")
            }
        });
    }

    /// A call of a helper, in a tag of its own, as a block or as a parameter.
    fn call(&mut self, helper: &HelperTemplate, line: usize, column: usize, block: bool) {
        let name = head(&helper.name);
        let source = &self.sources[self.current];
        for parameter in helper.params.iter().chain(helper.hash.values()) {
            self.parameter(parameter, line, column);
        }
        let lines = &self.lines[self.current];
        let at = || name_place(source, lines, line, column, name);
        let Some(entry) = helpers::find(name) else {
            let known = helpers::TABLE
                .iter()
                .filter(|entry| !block || entry.is_block())
                .map(|entry| entry.name);
            let diagnostic =
                Diagnostic::error("unknown-helper", format!("There is no helper `{name}`."))
                    .at(at());
            let near = nearest(name, known).map(|near| format!("Did you mean `{near}`?"));
            let help = helpers::absent_function(name).or(near);
            self.errors.push(match (help, block) {
                (Some(help), _) => diagnostic.help(help),
                (None, true) => {
                    diagnostic.help("Use {{#each …}}, {{#if …}} or {{#with …}} to go into a value.")
                }
                (None, false) => diagnostic.help("`gatewright helpers` lists them all."),
            });
            return;
        };
        if block && !entry.is_block() && !matches!(entry.action, Action::Raw) {
            self.errors.push(
                Diagnostic::error("not-a-block", format!("`{name}` is not used as a block."))
                    .at(at())
                    .help(format!("It is written as {}.", entry.example)),
            );
            return;
        }
        if !block && entry.is_block() {
            self.errors.push(
                Diagnostic::error("needs-block", format!("`{name}` is used as a block."))
                    .at(at())
                    .help(format!("It is written as {}.", entry.example)),
            );
            return;
        }
        self.parameters(entry, helper, line, column);
        if matches!(entry.action, Action::Raw) && !block && !self.options.raw {
            self.errors.push(
                Diagnostic::error(
                    "raw-not-allowed",
                    "`raw` would write a value without escaping, and the settings do not allow it.",
                )
                .at(at())
                .help("Write {{…}}, or set templates.allow_raw = true if the value may add words and lines."),
            );
        }
        if let (Action::File, Some(folder), Some(Parameter::Literal(name))) =
            (entry.action, &self.options.files, helper.params.first())
            && let Some(path) = name.as_str().map(|name| folder.join(name))
            && self.options.destinations.contains(&path)
        {
            self.errors.push(
                Diagnostic::error(
                    "circular",
                    format!(
                        "A template makes {}, so the configuration would depend on itself.",
                        path.display()
                    ),
                )
                .at(at())
                .help("Read another file, or give the template another destination."),
            );
        }
        if let Action::Query(reads) = entry.action {
            let pairs: BTreeMap<&str, &Parameter> = helper
                .hash
                .iter()
                .map(|(name, value)| (name.as_str(), value))
                .collect();
            match helpers::literal_query(reads, &helper.params, &pairs) {
                None => {}
                Some(Ok(query)) => {
                    self.queries[self.current].insert(query);
                }
                Some(Err(sentence)) => self
                    .errors
                    .push(Diagnostic::error("query", sentence).at(at())),
            }
        }
    }

    fn parameters(&mut self, entry: &Entry, helper: &HelperTemplate, line: usize, column: usize) {
        let source = &self.sources[self.current];
        let lines = &self.lines[self.current];
        let at = || name_place(source, lines, line, column, head(&helper.name));
        let (least, most) = entry.parameters;
        let given = helper.params.len();
        let raw_block = matches!(entry.action, Action::Raw) && helper.block;
        if (given < least || given > most) && !raw_block {
            let wanted = match (least, most) {
                (least, most) if least == most => format!("{least}"),
                (least, most) if most >= 64 => format!("at least {least}"),
                (least, most) => format!("{least} to {most}"),
            };
            self.errors.push(
                Diagnostic::error(
                    "parameters",
                    format!(
                        "`{}` takes {wanted} parameter{} and got {given}.",
                        entry.name,
                        if wanted == "1" { "" } else { "s" }
                    ),
                )
                .at(at())
                .help(format!("It is written as {}.", entry.example)),
            );
        }
        for pair in helper.hash.keys() {
            if !entry.pairs.contains(&pair.as_str()) {
                let diagnostic = Diagnostic::error(
                    "unknown-pair",
                    format!("`{}` does not take `{pair}=`.", entry.name),
                )
                .at(at());
                self.errors
                    .push(match nearest(pair, entry.pairs.iter().copied()) {
                        Some(near) => diagnostic.help(format!("Did you mean `{near}=`?")),
                        None => diagnostic.help(format!("It is written as {}.", entry.example)),
                    });
            }
        }
    }

    fn parameter(&mut self, parameter: &Parameter, line: usize, column: usize) {
        if let Parameter::Subexpression(sub) = parameter
            && let Element::Expression(helper) = sub.element.as_ref()
        {
            self.call(helper, line, column, false);
        }
        if let Parameter::Path(path) = parameter
            && let Some(name) = scope::left_out(path, self.scope, &self.bound)
        {
            let place = self.name_place(line, column, name);
            let diagnostic =
                Diagnostic::error("absent-field", format!("There is no `{name}` here.")).at(place);
            self.errors.push(match helpers::absent_field(name) {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            });
        }
    }

    // Partials.

    fn partials(&mut self, options: &Options) {
        let known: BTreeMap<&str, usize> = self.sources[self.templates..]
            .iter()
            .enumerate()
            .map(|(index, source)| (source.name.as_str(), index + self.templates))
            .collect();
        let mut missing = Vec::new();
        for one in self.uses.values().flatten() {
            if known.contains_key(one.name.as_str())
                || self.inline.contains(&one.name)
                || one.fallback
            {
                continue;
            }
            let names = known
                .keys()
                .copied()
                .chain(self.inline.iter().map(String::as_str));
            let diagnostic = Diagnostic::error(
                "unknown-partial",
                format!("There is no partial `{}`.", one.name),
            )
            .at(self.place_of(one));
            missing.push(match nearest(&one.name, names) {
                Some(near) => diagnostic.help(format!("Did you mean `{near}`?")),
                None => diagnostic.help(format!(
                    "Put `{}.hbs` into the folder that templates.partials names.",
                    one.name
                )),
            });
        }
        self.errors.extend(missing);
        let nodes: Vec<Node> = self.uses.keys().cloned().collect();
        let mut done = BTreeSet::new();
        let mut told = BTreeSet::new();
        for node in nodes {
            let mut path = Vec::new();
            if let Some((names, place)) =
                self.find_cycle(&node, &known, &mut path, &mut done, options)
            {
                let mut set = names.clone();
                set.sort();
                if told.insert(set) {
                    self.errors.push(
                        Diagnostic::error(
                            "partial-cycle",
                            format!(
                                "Partials include each other without end: {}.",
                                names.join(" → ")
                            ),
                        )
                        .at(place)
                        .help("Take one of the includes out."),
                    );
                }
            }
        }
    }

    /// A way from a node back to itself, or deeper than allowed.
    fn find_cycle(
        &self,
        node: &Node,
        known: &BTreeMap<&str, usize>,
        path: &mut Vec<(Node, String)>,
        done: &mut BTreeSet<Node>,
        options: &Options,
    ) -> Option<(Vec<String>, Place)> {
        if done.contains(node) {
            return None;
        }
        path.push((node.clone(), self.name(node)));
        for one in self.uses.get(node).into_iter().flatten() {
            let targets = [
                known
                    .get(one.name.as_str())
                    .map(|index| Node::Source(*index)),
                self.inline
                    .contains(&one.name)
                    .then(|| Node::Inline(one.name.clone())),
            ];
            for target in targets.into_iter().flatten() {
                if let Some(start) = path.iter().position(|(on_path, _)| *on_path == target) {
                    let mut names: Vec<String> =
                        path[start..].iter().map(|(_, name)| name.clone()).collect();
                    names.push(self.name(&target));
                    return Some((names, self.place_of(one)));
                }
                if path.len() > options.max_nesting {
                    let names = path.iter().map(|(_, name)| name.clone()).collect();
                    return Some((names, self.place_of(one)));
                }
                if let Some(found) = self.find_cycle(&target, known, path, done, options) {
                    return Some(found);
                }
            }
        }
        path.pop();
        done.insert(node.clone());
        None
    }

    fn place_of(&self, one: &Use) -> Place {
        let (source, lines) = (&self.sources[one.source], &self.lines[one.source]);
        name_place(source, lines, one.line, one.column, &one.name)
    }

    fn name_place(&self, line: usize, column: usize, name: &str) -> Place {
        let (source, lines) = (&self.sources[self.current], &self.lines[self.current]);
        name_place(source, lines, line, column, name)
    }

    fn name(&self, node: &Node) -> String {
        match node {
            Node::Source(index) => self.sources[*index].name.clone(),
            Node::Inline(name) => name.clone(),
        }
    }

    /// The literal queries of the templates and of the partials they reach.
    fn reached_queries(&self) -> BTreeSet<Query> {
        let mut reached: BTreeSet<usize> = (0..self.templates).collect();
        let mut waiting: Vec<usize> = reached.iter().copied().collect();
        while let Some(source) = waiting.pop() {
            for one in self
                .uses
                .values()
                .flatten()
                .filter(|one| one.source == source)
            {
                let target = self.sources[self.templates..]
                    .iter()
                    .position(|partial| partial.name == one.name)
                    .map(|index| index + self.templates);
                if let Some(target) = target
                    && reached.insert(target)
                {
                    waiting.push(target);
                }
            }
        }
        reached
            .iter()
            .flat_map(|source| self.queries[*source].iter().cloned())
            .collect()
    }
}
