//! `gatewright check`: templates against catalog files, the gate and the real `haproxy -c`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::agent::explain::explain;
use crate::apply::gate;
use crate::apply::set::{Candidate, Role, SetFile};
use crate::apply::stage::{replace_paths, stage};
use crate::apply::validate;
use crate::catalog::fixture::Fixture;
use crate::diagnostic::{Diagnostic, Severity, with_causes};
use crate::exit;
use crate::haproxy::check::Invocation;
use crate::settings::model::{Kind, Template};
use crate::settings::{Environment, Settings, environment};

use super::failure::print_diagnostics;
use super::flags::{SettingsFlag, SourceFlags};
use super::gather::{Catalog, gather, read_fixture};
use super::{Failure, run, wiring};

/// Check templates against catalog files and `haproxy -c`; needs no Consul
///
/// Each set of templates is rendered from each catalog file and validated by the real HAProxy and by
/// the gate. Templates are those of the settings, or each .hbs file that is named; catalogs are the
/// .json files that are named or lie in the named folders. Without a catalog an empty one is used.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright check -c gatewright.toml fixtures/
  gatewright check haproxy.cfg.hbs fixtures/three.json --haproxy /usr/sbin/haproxy
  gatewright check --service web fixtures/

The exit code is 0 when everything is good, 4 when a template or a catalog file is wrong, and 5 when
haproxy -c or the gate refuses a configuration.")]
pub struct Check {
    /// Templates (.hbs), catalog files (.json) and folders with either
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
}

/// One thing that was checked.
struct Case {
    name: String,
    settings: Settings,
    fixture: Fixture,
    fixture_path: PathBuf,
}

impl Check {
    /// Runs the command.
    pub fn run(self) -> Result<u8, Failure> {
        let environment = environment::read();
        let settings = self.settings.load(&environment, |settings| {
            self.source.apply(settings, &environment)
        })?;
        let cases = self.cases(&settings)?;
        let total = cases.len();
        let mut worst = exit::OK;
        let mut failed = 0;
        let terminal = std::io::stderr().is_terminal();
        let mut out = anstream::stdout();
        let bold = anstyle::Style::new().bold();
        for (index, case) in cases.into_iter().enumerate() {
            if terminal {
                let _ = write!(
                    std::io::stderr(),
                    "\r{}/{total} {}\x1b[K\r",
                    index + 1,
                    case.name
                );
            }
            let result = check_one(&case, &environment);
            if terminal {
                let _ = write!(std::io::stderr(), "\x1b[K");
            }
            let (code, diagnostics) = match result {
                Ok(warnings) => (exit::OK, warnings),
                Err(failure) => (failure.code, failure.diagnostics),
            };
            let word = if code == exit::OK {
                "good   "
            } else {
                "refused"
            };
            let _ = writeln!(out, "{bold}{word}{bold:#} {}", case.name);
            print_diagnostics(&diagnostics);
            failed += usize::from(code != exit::OK);
            worst = worst.max(code);
        }
        let _ = writeln!(out, "{} good, {failed} refused.", total - failed);
        Ok(worst)
    }

    fn cases(&self, settings: &Settings) -> Result<Vec<Case>, Failure> {
        let mut templates = Vec::new();
        let mut catalogs = Vec::new();
        for path in &self.paths {
            sort_in(path, true, &mut templates, &mut catalogs)?;
        }
        let sets: Vec<(String, Settings)> = if templates.is_empty() {
            let name = settings
                .template
                .iter()
                .map(|template| template.source.display().to_string())
                .collect::<Vec<_>>()
                .join(" + ");
            vec![(name, settings.clone())]
        } else {
            templates
                .iter()
                .map(|path| (path.display().to_string(), alone(settings, path)))
                .collect()
        };
        let mut fixtures = Vec::new();
        for path in &catalogs {
            fixtures.push((
                path.display().to_string(),
                read_fixture(path)?,
                path.clone(),
            ));
        }
        if fixtures.is_empty() {
            let empty = "an empty catalog".to_owned();
            fixtures.push((empty.clone(), Fixture::default(), empty.into()));
        }
        Ok(sets
            .iter()
            .flat_map(|(template, settings)| {
                fixtures.iter().map(move |(catalog, fixture, path)| Case {
                    name: format!("{template} with {catalog}"),
                    settings: settings.clone(),
                    fixture: fixture.clone(),
                    fixture_path: path.clone(),
                })
            })
            .collect())
    }
}

/// Puts a path to the templates or the catalogs; looks right into a folder.
fn sort_in(
    path: &Path,
    named: bool,
    templates: &mut Vec<PathBuf>,
    catalogs: &mut Vec<PathBuf>,
) -> Result<(), Failure> {
    let wrong = |message: String| {
        Failure::one(
            exit::USAGE,
            Diagnostic::error("path", message)
                .help("Name .hbs templates, .json catalogs or folders of them."),
        )
    };
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| {
            wrong(format!(
                "The folder {} cannot be read: {error}.",
                path.display()
            ))
        })?;
        let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        inside.sort();
        for path in inside.iter().filter(|path| path.is_file()) {
            sort_in(path, false, templates, catalogs)?;
        }
        return Ok(());
    }
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("json") => catalogs.push(path.to_owned()),
        Some("hbs") => templates.push(path.to_owned()),
        _ if named => {
            return Err(wrong(format!(
                "{} is neither a template nor a catalog file.",
                path.display()
            )));
        }
        _ => {}
    }
    Ok(())
}

/// The settings with one template as the whole set.
fn alone(settings: &Settings, path: &Path) -> Settings {
    let mut settings = settings.clone();
    let name = path.file_stem().map(PathBuf::from).unwrap_or_default();
    settings.template = vec![Template {
        source: path.to_owned(),
        destination: Path::new("/").join(name),
        kind: Kind::Config,
        mode: None,
    }];
    settings
}

fn check_one(case: &Case, environment: &Environment) -> Result<Vec<Diagnostic>, Failure> {
    let (mut set, mut told) = wiring::load_templates(&case.settings, environment)
        .map_err(|wrong| Failure::new(exit::TEMPLATE, wrong))?;
    set.be_strict();
    let catalog = Catalog::Fixture(Box::new(case.fixture.clone()), case.fixture_path.clone());
    let rounds = case.settings.catalog.max_discovery_rounds;
    let gathered = run::block_on(gather(&mut set, &catalog, rounds))??;
    told.extend(
        gathered
            .rendering
            .quarantined
            .iter()
            .map(|one| Diagnostic::warning("quarantined", one.to_string())),
    );
    let rendered = wiring::candidate(&case.settings, gathered.rendering.files.clone());
    let mut findings = by_haproxy(&case.settings, &rendered)?;
    if !findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        findings.extend(gate::judge(&rendered, None, &wiring::rules(&case.settings)));
    }
    let maps = set.source_maps(&gathered.rendering.files);
    let refused = findings
        .iter()
        .any(|finding| finding.severity == Severity::Error);
    told.extend(
        findings
            .iter()
            .map(|finding| explain(finding, &rendered.files, &maps)),
    );
    if refused {
        Err(Failure::new(exit::REFUSED, told))
    } else {
        Ok(told)
    }
}

/// Validates a copy in a folder of its own; nothing at the destinations is touched.
fn by_haproxy(
    settings: &Settings,
    rendered: &Candidate,
) -> Result<Vec<crate::haproxy::Finding>, Failure> {
    let failed = |message: String| Failure::one(exit::FAILURE, Diagnostic::error("check", message));
    let folder = tempfile::Builder::new()
        .prefix("gatewright-check-")
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
        environment: wiring::haproxy_environment(&environment::read()),
    };
    let limit = settings.haproxy.validate_timeout.0;
    let strict = settings.gate.strict_warnings;
    let findings = run::block_on(async {
        let staged = stage(&copy, None, None).map_err(|error| failed(error.to_string()))?;
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
            finding
        })
        .collect())
}
