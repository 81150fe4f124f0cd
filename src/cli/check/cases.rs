//! Which templates are checked with which catalogs: from the paths that were named and what lies beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::catalog::fixture::Fixture;
use crate::catalog::fixture::made::{self, Made};
use crate::diagnostic::Diagnostic;
use crate::exit;
use crate::settings::Settings;
use crate::settings::model::{Kind, Template};
use crate::text;

use super::super::gather::read_fixture;
use super::super::{Failure, near, wiring};

/// The folder of catalogs beside a template.
const FIXTURES: &str = "fixtures";
/// Folders that hold partials, unless they are named.
const PARTIALS: &str = "partials";

/// One thing to check.
#[derive(Clone)]
pub struct Case {
    /// `haproxy.cfg.hbs with fixtures/three.json`.
    pub name: String,
    /// The templates and all else.
    pub settings: Arc<Settings>,
    /// Where answers come from.
    pub catalog: CaseCatalog,
}

/// A catalog to check with.
#[derive(Clone)]
pub enum CaseCatalog {
    /// A file, as it was read.
    File(PathBuf, Read),
    /// One that is made, and that a recorded one may have been the mould of.
    Made(Arc<Made>),
    /// None at all.
    Empty,
}

/// A catalog file, or what is wrong with it.
type Read = Result<Arc<Fixture>, Vec<Diagnostic>>;

impl Case {
    /// The templates of the set.
    pub fn templates(&self) -> Vec<PathBuf> {
        let templates = self.settings.template.iter();
        templates.map(|template| template.source.clone()).collect()
    }

    /// The catalog file, if there is one.
    pub fn catalog_file(&self) -> Option<&Path> {
        match &self.catalog {
            CaseCatalog::File(path, _) => Some(path),
            _ => None,
        }
    }
}

/// What was named.
#[derive(Default)]
struct Named {
    templates: Vec<PathBuf>,
    catalogs: Vec<PathBuf>,
}

/// Every set of templates with every catalog of it. `made` adds the made catalogs.
pub fn cases(settings: &Settings, paths: &[PathBuf], made: bool) -> Result<Vec<Case>, Failure> {
    let mut named = Named::default();
    for path in paths.iter().chain(&settings.check.fixtures) {
        sort_in(path, settings, &mut named)?;
    }
    let sets: Vec<Settings> = match named.templates.as_slice() {
        [] => {
            wiring::says_what_to_render(settings)?;
            vec![settings.clone()]
        }
        templates => templates.iter().map(|path| alone(settings, path)).collect(),
    };
    let mut read: BTreeMap<PathBuf, Read> = BTreeMap::new();
    let mut cases = Vec::new();
    for settings in sets {
        let mut catalogs = named.catalogs.clone();
        for template in &settings.template {
            catalogs.extend(own_fixtures(&template.source));
        }
        catalogs.sort();
        catalogs.dedup();
        let title = title(&settings);
        let settings = Arc::new(settings);
        let mut add = |with: &str, catalog| {
            cases.push(Case {
                name: format!("{title} with {with}"),
                settings: Arc::clone(&settings),
                catalog,
            });
        };
        let mut mould = None;
        for path in catalogs {
            let fixture = read
                .entry(path.clone())
                .or_insert_with(|| {
                    let fixture = read_fixture(&path).map(Arc::new);
                    fixture.map_err(|failure| failure.diagnostics)
                })
                .clone();
            if let (None, Ok(fixture)) = (&mould, &fixture) {
                mould = Some(Fixture::clone(fixture));
            }
            add(
                &near(&path).display().to_string(),
                CaseCatalog::File(path, fixture),
            );
        }
        if made {
            for case in made::Case::ALL {
                let mould = mould.clone();
                add(
                    case.words(),
                    CaseCatalog::Made(Arc::new(Made { case, mould })),
                );
            }
        } else if mould.is_none() && named.catalogs.is_empty() {
            add("an empty catalog", CaseCatalog::Empty);
        }
    }
    Ok(cases)
}

/// How a set is called.
fn title(settings: &Settings) -> String {
    let sources = settings.template.iter();
    let names: Vec<String> = sources
        .map(|template| near(&template.source).display().to_string())
        .collect();
    names.join(" + ")
}

/// Puts what was named to the templates or the catalogs. Of a folder, catalogs right in it are for every
/// template, and templates are looked for in all of it.
fn sort_in(path: &Path, settings: &Settings, named: &mut Named) -> Result<(), Failure> {
    if path.is_dir() {
        for inside in entries(path)? {
            if is(&inside, "json") && inside.is_file() && may_be_catalog(&inside) {
                named.catalogs.push(inside);
            }
        }
        return find_templates(path, settings, named);
    }
    if is(path, "json") {
        named.catalogs.push(path.to_owned());
    } else if is(path, "hbs") {
        named.templates.push(path.to_owned());
    } else {
        return Err(wrong(format!(
            "{} is neither a template nor a catalog file.",
            path.display()
        )));
    }
    Ok(())
}

/// Whether a file that nobody named by itself speaks of what catalogs hold: a repository has other JSON files, too.
fn may_be_catalog(path: &Path) -> bool {
    const KEYS: [&str; 5] = [
        "\"services\"",
        "\"keys\"",
        "\"answers\"",
        "\"nodes\"",
        "\"datacenters\"",
    ];
    // What cannot be read is told as such later.
    text::read(path, text::OF_CATALOG)
        .map_or(true, |text| KEYS.iter().any(|key| text.contains(key)))
}

/// The templates in a folder and in those below it, apart from partials and what is hidden.
fn find_templates(folder: &Path, settings: &Settings, named: &mut Named) -> Result<(), Failure> {
    for path in entries(folder)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let partials = settings.templates.partials.as_deref() == Some(&path)
            || name == Some(PARTIALS)
            || name.is_none_or(|name| name.starts_with('.'));
        if path.is_symlink() && path.is_dir() || partials {
            continue; // A link may lead back here.
        }
        if path.is_dir() {
            find_templates(&path, settings, named)?;
        } else if is(&path, "hbs") {
            named.templates.push(path);
        }
    }
    Ok(())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        wrong(format!(
            "The folder {} cannot be read: {error}.",
            folder.display()
        ))
    })?;
    let plain = |path: PathBuf| match path.strip_prefix(".") {
        Ok(path) => path.to_owned(),
        Err(_) => path,
    };
    let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| plain(entry.path())).collect();
    inside.sort();
    Ok(inside)
}

fn wrong(message: String) -> Failure {
    Failure::one(
        exit::USAGE,
        Diagnostic::error("path", message)
            .help("Name .hbs templates, .json catalogs or folders of them."),
    )
}

fn is(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}

/// The catalogs that belong to a template: those in `NAME.fixtures` beside it, else those in `fixtures`.
fn own_fixtures(template: &Path) -> Vec<PathBuf> {
    let beside = template.parent().unwrap_or(Path::new(""));
    let own = template.with_extension(FIXTURES);
    let folder = match own.is_dir() {
        true => own,
        false => beside.join(FIXTURES),
    };
    entries(&folder)
        .unwrap_or_default()
        .into_iter()
        .filter(|path| is(path, "json") && path.is_file())
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path, paths: &[&str], made: bool) -> Vec<String> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| folder.join(path)).collect();
        let cases = cases(&Settings::default(), &paths, made).unwrap();
        let prefix = format!("{}/", folder.display());
        cases
            .into_iter()
            .map(|case| case.name.replace(&prefix, ""))
            .collect()
    }

    #[test]
    fn a_template_is_checked_with_the_catalogs_beside_it_and_those_that_are_named() {
        let folder = tempfile::tempdir().unwrap();
        for path in [
            "a/x.cfg.hbs",
            "a/y.cfg.hbs",
            "a/fixtures/1.json",
            "a/fixtures/2.json",
            "a/y.cfg.fixtures/3.json",
            "b/z.cfg.hbs",
            "b/partials/p.hbs",
            "b/.hidden/h.hbs",
            "b/notes.txt",
            "all.json",
            "deep/in/d.cfg.hbs",
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, r#"{"services": {}}"#).unwrap();
        }
        let at = folder.path();
        std::fs::write(at.join("package.json"), r#"{"name": "x"}"#).unwrap();
        assert_eq!(
            names(at, &["a"], false),
            [
                "a/x.cfg.hbs with a/fixtures/1.json",
                "a/x.cfg.hbs with a/fixtures/2.json",
                "a/y.cfg.hbs with a/y.cfg.fixtures/3.json",
            ]
        );
        assert_eq!(
            names(at, &["a/x.cfg.hbs", "all.json"], false),
            [
                "a/x.cfg.hbs with a/fixtures/1.json",
                "a/x.cfg.hbs with a/fixtures/2.json",
                "a/x.cfg.hbs with all.json",
            ]
        );
        assert_eq!(
            names(at, &["b", "deep"], false),
            [
                "b/z.cfg.hbs with an empty catalog",
                "deep/in/d.cfg.hbs with an empty catalog",
            ]
        );
        assert_eq!(names(at, &["."], false).len(), 7, "each with all.json, too");
        assert_eq!(
            names(at, &["b"], true),
            [
                "b/z.cfg.hbs with nothing healthy",
                "b/z.cfg.hbs with one instance",
                "b/z.cfg.hbs with two instances on one node",
                "b/z.cfg.hbs with many instances",
                "b/z.cfg.hbs with empty metadata",
                "b/z.cfg.hbs with hostile values",
            ]
        );
        let wrong = cases(&Settings::default(), &[at.join("b/notes.txt")], false);
        assert_eq!(wrong.err().map(|failure| failure.code), Some(exit::USAGE));
    }
}
