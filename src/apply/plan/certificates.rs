//! Certificates that differ between two sets, and the lines of crt-lists that name them: what a worker
//! is told instead of loading all of it. Pure.
//!
//! At run time a certificate is put behind the others of its `bind` line, whatever its place in the
//! files. So it may share no name with another one there, or a later load would choose otherwise. Only
//! what could also be undone by commands is planned: files and crt-lists whose old and new contents are
//! in the set and understood.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

mod list;
mod pem;
mod side;

use self::list::Line;
use self::pem::Leaf;
use self::side::Side;
use super::super::set::{Role, SetFile};
use super::changes::Changes;
use crate::haproxy::runtime::{Command, CrtListEntry, Pem, Unspeakable};

/// What is told about certificates: contents and lines that are added, then what is taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateSteps {
    /// Certificates that are new or have another content.
    pub contents: Vec<CertificateStep>,
    /// Lists whose lines differ.
    pub lists: Vec<CrtListStep>,
    /// Certificates that nothing names any more.
    pub forgotten: Vec<PathBuf>,
}

/// A certificate's content. Its key is not shown by `Debug`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStep {
    /// The file of the set.
    pub destination: PathBuf,
    /// The name under which HAProxy would load it, when it is new.
    pub new: Option<String>,
    /// The content.
    pub pem: Pem,
    /// SHA-1 of its first certificate, as HAProxy tells it.
    pub fingerprint: String,
}

/// The lines of a crt-list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrtListStep {
    /// The file of the set.
    pub destination: PathBuf,
    /// Lines that are new: the certificate's name in HAProxy, and the line.
    pub added: Vec<(String, String)>,
    /// Names of certificates whose line is gone.
    pub removed: Vec<String>,
    /// All lines that it then has.
    pub entries: Vec<CrtListEntry>,
}

impl CertificateSteps {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == CertificateSteps::default()
    }

    /// How many commands it takes.
    pub fn commands(&self) -> usize {
        let of_contents = self.contents.iter();
        let of_contents = of_contents.map(|step| 2 + usize::from(step.new.is_some()));
        let of_lists = self.lists.iter();
        let of_lists = of_lists.map(|list| list.added.len() + list.removed.len());
        of_contents.chain(of_lists).sum::<usize>() + self.forgotten.len()
    }
}

/// Why commands will not do.
#[derive(Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// Other files than certificates and lists of them differ.
    OtherFiles,
    /// It is about certificates, but not certain or not possible at run time; why, in words.
    Because(String),
}

impl From<String> for Unsaid {
    fn from(why: String) -> Unsaid {
        Unsaid::Because(why)
    }
}

/// What leads from one set to the other, where besides servers and maps only files differ.
pub fn lead(
    old: &[SetFile],
    new: &[SetFile],
    changes: &Changes,
) -> Result<CertificateSteps, Unsaid> {
    let differing: BTreeSet<&Path> = [
        &changes.files_added,
        &changes.files_removed,
        &changes.files_changed,
    ]
    .into_iter()
    .flatten()
    .map(PathBuf::as_path)
    .collect();
    for path in &differing {
        let versions = || [old, new].into_iter().flat_map(|files| find(files, path));
        let roles: Vec<Role> = versions().map(|file| file.role).collect();
        let told = match roles[..] {
            [Role::CrtList, Role::CrtList] => true,
            [Role::Other] | [Role::Other, Role::Other] => {
                versions().any(|file| file.text.contains("-----BEGIN "))
            }
            _ => false,
        };
        if !told {
            return Err(Unsaid::OtherFiles);
        }
    }
    let (before, after) = (Side::of(old)?, Side::of(new)?);
    let steps = one_way(&before, &after, &differing)?;
    // What is told must be possible to take back.
    one_way(&after, &before, &differing)?;
    Ok(steps)
}

/// The fingerprint that `show ssl cert` prints for a file with a certificate and its key. `None` where that is not certain.
pub fn fingerprint(text: &str) -> Option<String> {
    Some(pem::read(text).ok()?.fingerprint)
}

/// The entries that `show ssl crt-list` prints for a list; `base` is `crt-base`. `None` where that is not certain.
pub fn crt_list(text: &str, base: Option<&str>) -> Option<Vec<CrtListEntry>> {
    let lines = list::lines(text).ok()?.into_iter();
    let entry = |line: Line| CrtListEntry {
        file: side::with_base(base, &line.file),
        filters: line.filters,
    };
    Some(lines.map(entry).collect())
}

fn find<'a>(files: &'a [SetFile], path: &Path) -> Option<&'a SetFile> {
    files.iter().find(|file| file.destination == path)
}

fn one_way(
    before: &Side<'_>,
    after: &Side<'_>,
    differing: &BTreeSet<&Path>,
) -> Result<CertificateSteps, Unsaid> {
    let mut steps = CertificateSteps::default();
    for (path, lines) in &after.lists {
        if differing.contains(path) {
            after.refuse_unused(path)?;
            let former = before.lists.get(path).map_or(&[][..], Vec::as_slice);
            steps
                .lists
                .push(list_step(before, after, path, former, lines)?);
        }
    }
    let (was, is) = (before.named(), after.named());
    let mut affected: BTreeSet<&Path> = was.symmetric_difference(&is).copied().collect();
    affected.extend(
        differing
            .iter()
            .filter(|path| !after.lists.contains_key(*path)),
    );
    for path in affected {
        match (was.contains(path), is.contains(path)) {
            (false, false) => return Err(Unsaid::OtherFiles),
            (true, false) => steps.forgotten.push(path.to_owned()),
            (known, true) => {
                let name = after.only_name(path)?;
                if !known && !after.is_only_listed(path) {
                    return Err(format!(
                        "{} is new on a line of the configuration, which only a load of it reads",
                        told(path)
                    )
                    .into());
                }
                let (pem, leaf) = content(after, path)?;
                steps.contents.push(CertificateStep {
                    destination: path.to_owned(),
                    new: (!known).then_some(name),
                    pem,
                    fingerprint: leaf.fingerprint,
                });
            }
        }
    }
    let touched: Vec<&Path> = steps
        .contents
        .iter()
        .map(|c| c.destination.as_path())
        .collect();
    after.refuse_shared_names(&touched)?;
    Ok(steps)
}

/// A PEM file that can be told in one command.
fn content(side: &Side<'_>, path: &Path) -> Result<(Pem, Leaf), String> {
    let file = find(side.files, path);
    let file = file.ok_or_else(|| format!("{} is no file of the set any more", told(path)))?;
    let leaf = pem::read(&file.text).map_err(|why| format!("{} {why}", told(path)))?;
    let pem = Pem::from(file.text.as_str());
    let command = Command::SetCertificate {
        file: path.display().to_string(),
        pem: pem.clone(),
    };
    match command.encode() {
        Ok(_) => Ok((pem, leaf)),
        Err(Unspeakable::Long { .. }) => Err(format!(
            "{} is longer than HAProxy's buffer is sure to hold",
            told(path)
        )),
        Err(_) => Err(format!(
            "{} cannot be said on HAProxy's command line",
            told(path)
        )),
    }
}

fn list_step(
    before: &Side<'_>,
    after: &Side<'_>,
    path: &Path,
    former: &[Line],
    lines: &[Line],
) -> Result<CrtListStep, String> {
    let list = path.display();
    let (was, is) = (by_file(former), by_file(lines));
    let (Some(first_was), Some(first_is)) = (former.first(), lines.first()) else {
        return Err(format!("{list} is empty before or after"));
    };
    // Its certificate is the one for clients that ask for no name, and cannot be deleted.
    if first_was.file != first_is.file {
        return Err(format!("the first line of {list} differs"));
    }
    let kept = |line: &&Line| was.contains_key(line.file.as_str());
    let stay = |line: &&Line| is.contains_key(line.file.as_str());
    let order =
        |lines: Vec<&Line>| -> Vec<String> { lines.iter().map(|l| l.file.clone()).collect() };
    let mut step = CrtListStep {
        destination: path.to_owned(),
        added: Vec::new(),
        removed: Vec::new(),
        entries: Vec::new(),
    };
    let once = |count: usize, line: &Line| match count {
        1 => Ok(()),
        _ => Err(format!("{list} names {} more than once", line.file)),
    };
    for line in lines {
        let name = after.name(&line.file);
        step.entries.push(CrtListEntry {
            file: name.clone(),
            filters: line.filters.clone(),
        });
        let now = is.get(line.file.as_str()).map_or(&[][..], Vec::as_slice);
        match was.get(line.file.as_str()) {
            Some(then) if *then == now => {}
            Some(_) => {
                return Err(format!("the line of {} in {list} differs", line.file));
            }
            None => {
                once(now.len(), line)?;
                after.of_set(&line.file)?;
                if line.filters.iter().any(|filter| filter == "*") {
                    return Err(format!("{} in {list} is a default certificate", line.file));
                }
                step.added.push((name.clone(), line.with_file(&name)));
            }
        }
    }
    for line in former.iter().filter(|line| !stay(line)) {
        once(was.get(line.file.as_str()).map_or(0, Vec::len), line)?;
        before.of_set(&line.file)?;
        step.removed.push(before.name(&line.file));
    }
    let former = former.iter().filter(stay).collect();
    if order(former) != order(lines.iter().filter(kept).collect()) {
        return Err(format!("the lines of {list} stand in another order"));
    }
    Ok(step)
}

fn by_file(lines: &[Line]) -> BTreeMap<&str, Vec<&Line>> {
    let mut by_file: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
    for line in lines {
        by_file.entry(&line.file).or_default().push(line);
    }
    by_file
}

fn told(path: &Path) -> String {
    format!("the certificate {}", path.display())
}

#[cfg(test)]
mod tests;
