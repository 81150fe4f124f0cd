//! One set of templates with one catalog: rendered, validated by the real HAProxy, judged by the gate, and compared
//! with what is expected.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use crate::agent::explain::explain;
use crate::apply::gate;
use crate::apply::set::{Candidate, Role, SetFile};
use crate::apply::stage::{replace_paths, stage};
use crate::apply::validate;
use crate::diagnostic::report;
use crate::diagnostic::{Diagnostic, Severity, with_causes};
use crate::exit;
use crate::haproxy::Finding;
use crate::haproxy::check::Invocation;
use crate::haproxy::runtime::Version;
use crate::lint::{self, Allowed};
use crate::settings::{Environment, Settings, environment};

use super::super::gather::{Catalog, Gathered, gather};
use super::super::{Failure, near, run, wiring};
use super::cases::{Case, CaseCatalog};
use super::expected;
use super::lints::{self, Seen};

/// What is asked of every case.
pub struct Rules {
    /// Whether warnings fail a case.
    pub strict: bool,
    /// Whether what is expected is written anew.
    pub update: bool,
    /// The environment.
    pub environment: Environment,
    /// Lints that are allowed everywhere.
    pub allowed: Allowed,
    /// HAProxy's version, where it is known.
    pub version: Option<Version>,
}

/// Checks one case. Nothing at the destinations is touched.
pub fn check(case: &Case, rules: &Rules) -> (report::Case, Option<Seen>) {
    let began = Instant::now();
    let mut seen = None;
    let (code, diagnostics) = match judge(case, rules, &mut seen) {
        Ok(told) => {
            let error = |one: &Diagnostic| one.severity == Severity::Error;
            let code = match told.iter().find(|one| error(one)) {
                Some(one) if one.code == expected::CODE => exit::DIFFERENT,
                Some(_) => exit::REFUSED,
                None if rules.strict && !told.is_empty() => exit::REFUSED,
                None => exit::OK,
            };
            (code, told)
        }
        Err(failure) => (failure.code, failure.diagnostics),
    };
    let (mut code, mut diagnostics) = (code, diagnostics);
    if let CaseCatalog::Made(made) = &case.catalog
        && made.case.is_unfit()
    {
        code = tolerable(code, &mut diagnostics, rules.strict);
    }
    diagnostics.iter_mut().for_each(seen_from_here);
    let case = report::Case {
        name: case.name.clone(),
        templates: case.templates().iter().map(|path| near(path)).collect(),
        catalog: case.catalog_file().map(near),
        code,
        diagnostics,
        took: began.elapsed(),
    };
    (case, seen)
}

/// What values that mean harm bring about is no fault of the template for certain: where metadata is the
/// argument of a keyword, a bad value of it makes HAProxy refuse the whole.
fn tolerable(code: u8, diagnostics: &mut [Diagnostic], strict: bool) -> u8 {
    for one in diagnostics
        .iter_mut()
        .filter(|one| one.severity == Severity::Error)
    {
        one.severity = Severity::Warning;
        one.notes.push("While a service registers such a value, the newest set is refused: the structure of the last good set stays in force, and only servers change.".to_owned());
    }
    match strict {
        true => code,
        false => exit::OK,
    }
}

/// Settings make every path absolute; people look from where they stand.
pub fn seen_from_here(diagnostic: &mut Diagnostic) {
    let Diagnostic {
        place,
        includes,
        rendered,
        ..
    } = diagnostic;
    for place in place.iter_mut().chain(includes).chain(rendered) {
        place.path = near(&place.path);
    }
}

fn judge(case: &Case, rules: &Rules, seen: &mut Option<Seen>) -> Result<Vec<Diagnostic>, Failure> {
    let settings = &case.settings;
    let (mut set, mut told) = wiring::load_templates(settings, &rules.environment)
        .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
    let (catalog, made) = match &case.catalog {
        CaseCatalog::File(path, Ok(fixture)) => (
            Catalog::Fixture(Box::new(fixture.as_ref().clone()), path.clone()),
            None,
        ),
        CaseCatalog::File(_, Err(wrong)) => {
            return Err(Failure::new(exit::TEMPLATE, wrong.clone()));
        }
        CaseCatalog::Made(made) => (Catalog::Made(made.clone()), Some(made)),
        CaseCatalog::Empty => (Catalog::Fixture(Box::default(), PathBuf::new()), None),
    };
    // Items that are made to be unfit are left out, which is as it should be; others are faults to be found.
    let unfit = made.is_some_and(|made| made.case.is_unfit());
    if !unfit {
        set.be_strict();
    }
    let gathered = run::block_on(gather(
        &mut set,
        &catalog,
        settings.catalog.max_discovery_rounds,
    ))
    .and_then(|result| result)
    .map_err(|failure| match made {
        // Without a recorded catalog nobody knows which metadata instances have.
        Some(made) if made.mould.is_none() => unknown_shape(failure),
        _ => failure,
    })?;
    if !unfit {
        let quarantined = gathered.rendering.quarantined.iter();
        told.extend(quarantined.map(|one| Diagnostic::warning("quarantined", one.to_string())));
        let noted = gathered.rendering.noted.iter();
        told.extend(noted.map(|one| Diagnostic::warning(one.code, &one.text)));
    }
    let rendered = wiring::set_of(settings, &gathered.rendering);
    let mut findings = by_haproxy(settings, &rendered)?;
    let refused = |finding: &Finding| {
        finding.severity == Severity::Error && finding.code != validate::NO_LISTENER
    };
    if !findings.iter().any(refused) {
        let mut rules = wiring::rules(settings);
        if made.is_some() {
            // That the gate refuses too few servers is no fault of a template.
            rules.min_servers.clear();
            rules.require_servers_default = 0;
        }
        let judged = gate::judge(&rendered, None, &rules);
        if judged.iter().any(refused) {
            // HAProxy from 3.0 on says no more than that it would not start; the gate says why.
            findings.retain(|finding| finding.code != validate::NO_LISTENER);
        }
        findings.extend(judged);
    }
    let maps = set.source_maps(&gathered.rendering.files);
    // HAProxy 3.2 warns of what it refuses besides.
    let again = |warning: &Finding| {
        let same = |other: &Finding| (&other.file, other.line) == (&warning.file, warning.line);
        warning.severity == Severity::Warning
            && warning.line > 0
            && findings.iter().any(|other| refused(other) && same(other))
    };
    let told_of = findings.iter().filter(|finding| !again(finding));
    told.extend(told_of.map(|finding| {
        let help = lint::help_for(finding).or_else(|| finding.help.clone());
        let finding = Finding {
            help,
            ..finding.clone()
        };
        explain(&finding, &rendered, &maps)
    }));
    let secrets = &rendered.origin.secrets;
    let compared = compared(case, rules, &gathered, &maps)?.into_iter();
    told.extend(compared.map(|one| {
        let place = one.place.clone().map(|place| place.without(secrets));
        Diagnostic {
            place,
            ..one.without(secrets)
        }
    }));
    let asked = gathered.rendering.used.clone();
    *seen = Some(lints::case(
        &mut told,
        settings,
        &set,
        (&rendered, &maps),
        asked,
        (rules.version, &rules.allowed),
    ));
    Ok(told)
}

fn compared(
    case: &Case,
    rules: &Rules,
    gathered: &Gathered,
    maps: &[crate::template::SourceMap],
) -> Result<Vec<Diagnostic>, Failure> {
    let Some(catalog) = case.catalog_file() else {
        return Ok(Vec::new());
    };
    let files = case
        .settings
        .template
        .iter()
        .zip(&gathered.rendering.files)
        .zip(maps);
    let mut told = Vec::new();
    for ((template, text), map) in files {
        let path = expected::path(catalog, &template.source);
        told.extend(expected::compare(&path, text, map, rules.update)?);
    }
    Ok(told)
}

/// What is missing in a catalog that nobody recorded is no fault for certain.
fn unknown_shape(failure: Failure) -> Failure {
    let diagnostics = failure.diagnostics.into_iter().map(|one| match one.code {
        "missing-value" => one.note(
            "This catalog is made, and its instances have neither tags nor metadata. A catalog recorded by `gatewright capture` gives them those of the real ones.",
        ),
        _ => one,
    });
    Failure::new(failure.code, diagnostics.collect())
}

/// Validates a copy in a folder of its own; nothing at the destinations is touched.
pub fn by_haproxy(settings: &Settings, rendered: &Candidate) -> Result<Vec<Finding>, Failure> {
    let failed = |message: String| Failure::one(exit::FAILURE, Diagnostic::error("check", message));
    let folder = tempfile::Builder::new()
        .prefix("gatewright-check-")
        // Whatever the umask: rendered texts may hold secrets.
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .map_err(|error| failed(format!("A temporary folder cannot be made: {error}.")))?;
    let moved: Vec<PathBuf> = rendered
        .files
        .iter()
        .enumerate()
        .map(|(index, file)| {
            let name = file.destination.file_name().unwrap_or_default();
            folder
                .path()
                .join(format!("{index}-{}", name.to_string_lossy()))
        })
        .collect();
    let replacements: Vec<(String, String)> = rendered
        .files
        .iter()
        .zip(&moved)
        .map(|(file, moved)| {
            (
                file.destination.to_string_lossy().into_owned(),
                moved.to_string_lossy().into_owned(),
            )
        })
        .collect();
    let copy = Candidate {
        revision: rendered.revision.clone(),
        may_lose: rendered.may_lose.clone(),
        origin: rendered.origin.clone(),
        files: rendered
            .files
            .iter()
            .zip(&moved)
            .map(|(file, moved)| SetFile {
                destination: moved.clone(),
                text: replace_paths(&file.text, &replacements),
                ..file.clone()
            })
            .collect(),
    };
    let invocation = Invocation {
        binary: settings.haproxy.binary.clone(),
        flags: std::iter::once("-W".into())
            .chain(settings.haproxy.arguments.iter().map(Into::into))
            .collect(),
        files: settings
            .haproxy
            .config_files
            .iter()
            .cloned()
            .chain(
                copy.files
                    .iter()
                    .filter(|file| file.role == Role::Config)
                    .map(|file| file.destination.clone()),
            )
            .collect(),
        working_directory: settings.haproxy.working_directory.clone(),
        environment: wiring::haproxy_environment(settings, &environment::read()),
    };
    let mut others = validate::others(&copy.files, &invocation, None);
    for (_, text) in &mut others {
        *text = replace_paths(text, &replacements);
    }
    let limit = settings.haproxy.validate_timeout.0;
    let strict = settings.gate.strict_warnings;
    let findings = run::block_on(async {
        let staged =
            stage(&copy, None, None, &others).map_err(|error| failed(error.to_string()))?;
        validate::by_haproxy(&copy, &staged, &invocation, None, limit, strict)
            .await
            .map_err(|error| {
                Failure::one(
                    exit::FAILURE,
                    Diagnostic::error("validator", with_causes(&error))
                        .help("Name HAProxy's program with --haproxy or haproxy.binary."),
                )
            })
    })??;
    Ok(findings
        .into_iter()
        .map(|mut finding| {
            if let Some(file) = &finding.file
                && let Some(index) = moved.iter().position(|moved| moved == file)
            {
                finding.file = Some(rendered.files[index].destination.clone());
            }
            for (destination, moved) in &replacements {
                finding.message = finding.message.replace(moved, destination);
            }
            finding
        })
        .collect())
}
