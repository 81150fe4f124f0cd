//! Helpers that read what is not the catalog: parameters, environment variables, files.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use handlebars::{Context, Handlebars, Helper, HelperDef, RenderContext, RenderError, ScopedJson};
use serde_json::Value;

use super::super::engine::PARAMETERS;
use super::super::recorder::Recorder;
use super::{failed, refuse_missing};
use crate::catalog::fitness::shorten;
use crate::text;

/// What is given for something that is not there and has no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// An error.
    Refused,
    /// An empty text.
    EmptyText,
    /// An empty list, and lists are made of single values.
    EmptyList,
    /// The second parameter.
    Second,
}

/// The largest file that the helper `file` reads.
const MAX_FILE: u64 = 1 << 20;

/// `{{parameter NAME [DEFAULT]}}`.
pub struct ParameterHelper {
    pub missing: Missing,
}

impl HelperDef for ParameterHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        context: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let name = text(helper, 0)?;
        let listed = self.missing == Missing::EmptyList;
        if let Some(value) = context
            .data()
            .get(PARAMETERS)
            .and_then(|all| all.get(&name))
        {
            if listed && !value.is_array() {
                return Ok(ScopedJson::Derived(Value::Array(vec![value.clone()])));
            }
            return Ok(ScopedJson::Context(
                value,
                vec![PARAMETERS.to_owned(), name],
            ));
        }
        match helper.param(1).map(|param| param.value().clone()) {
            Some(value) if listed && !value.is_array() => {
                Ok(ScopedJson::Derived(Value::Array(vec![value])))
            }
            Some(value) => Ok(ScopedJson::Derived(value)),
            None if listed => Ok(ScopedJson::Derived(Value::Array(Vec::new()))),
            None => Err(failed(format!(
                "There is no parameter `{name}`. Set it in [parameters], or give a default: {{{{parameter \"{name}\" \"…\"}}}}."
            ))),
        }
    }
}

/// `{{env NAME}}`, `{{mustEnv NAME}}` and `{{envOrDefault NAME DEFAULT}}`.
pub struct EnvironmentHelper {
    pub missing: Missing,
    pub recorder: Arc<Recorder>,
}

impl HelperDef for EnvironmentHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let name = text(helper, 0)?;
        let options = self.recorder.options();
        let Some(value) = options.environment.get(&name) else {
            return Err(failed(format!(
                "Templates may not read the environment variable `{name}`. Name it in templates.environment."
            )));
        };
        let value = match (value, self.missing) {
            // As in consul-template, an empty one does not count as set.
            (Some(value), Missing::Refused) if value.is_empty() => None,
            (value, _) => value.clone(),
        };
        match (value, self.missing) {
            (Some(value), _) => Ok(ScopedJson::Derived(value.into())),
            (None, Missing::Refused) => Err(failed(format!(
                "The environment variable `{name}` is not set or empty."
            ))),
            (None, Missing::Second) => Ok(ScopedJson::Derived(
                helper
                    .param(1)
                    .map(|param| param.value().clone())
                    .unwrap_or_default(),
            )),
            (None, _) => Ok(ScopedJson::Derived("".into())),
        }
    }
}

/// `{{file NAME}}`.
pub struct FileHelper {
    pub recorder: Arc<Recorder>,
}

impl HelperDef for FileHelper {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        refuse_missing(helper)?;
        let name = text(helper, 0)?;
        let options = self.recorder.options();
        let Some(folder) = &options.files else {
            return Err(failed(
                "Templates may not read files. Name their folder in templates.files.",
            ));
        };
        let text = read_below(folder, &name, &options.destinations).map_err(failed)?;
        self.recorder.read_file(folder.join(&name), &text);
        Ok(ScopedJson::Derived(text.into()))
    }
}

/// Reads a file that is really below a folder, wherever links lead.
fn read_below(folder: &Path, name: &str, destinations: &[PathBuf]) -> Result<String, String> {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !plain {
        return Err(format!(
            "`{}` is not a path below templates.files.",
            shorten(name)
        ));
    }
    let read = || -> std::io::Result<String> {
        let base = folder.canonicalize()?;
        let path = folder.join(name).canonicalize()?;
        if !path.starts_with(&base) {
            return Err(std::io::Error::other("it lies outside of templates.files"));
        }
        let is_this = |one: &PathBuf| one.canonicalize().is_ok_and(|one| one == path);
        if destinations.iter().any(is_this) {
            return Err(std::io::Error::other(
                "a template makes it, so the configuration would depend on itself",
            ));
        }
        text::read(&path, MAX_FILE)
    };
    read().map_err(|error| format!("The file `{}` cannot be read: {error}.", shorten(name)))
}

fn text(helper: &Helper<'_>, index: usize) -> Result<String, RenderError> {
    helper
        .param(index)
        .and_then(|param| super::as_text(param.value()))
        .ok_or_else(|| failed(format!("`{}` wants a name as a text.", helper.name())))
}
