//! Whether the directory is there that a set names by `chroot`. `haproxy -c` looks for certificates, Lua
//! files, users and groups, and enters no root (2.6 to 3.2): before 3.1 HAProxy ends when it loads such a
//! set. Reads only.

use std::path::Path;

use super::plan::configuration;
use super::set::SetFile;
use crate::diagnostic::Severity;
use crate::haproxy::Finding;
use crate::haproxy::sight::{Place, place};

/// The code of a root that is not there.
pub const CODE: &str = "missing-root";

/// An error for each `chroot` to nothing, as `pid` sees it, else as we do. Relative paths start in
/// `directory`.
pub fn missing(files: &[SetFile], pid: Option<i32>, directory: Option<&Path>) -> Vec<Finding> {
    let config = configuration(files);
    let globals = config.of_kind("global");
    let lines =
        globals.flat_map(|section| section.all("chroot").map(move |line| (section.file, line)));
    let found = lines
        .filter(|(_, line)| !line.conditional)
        .filter_map(|(file, line)| {
            let word = line.words.get(1).filter(|word| !word.opaque)?;
            let path = match Path::new(&word.text) {
                path if path.is_absolute() => path.to_owned(),
                path => directory?.join(path),
            };
            let what = match place(pid, &path) {
                Place::Nothing => "does not exist",
                Place::Other => "is no directory",
                Place::Directory | Place::Unknown => return None,
            };
            Some(Finding {
                severity: Severity::Error,
                code: CODE,
                message: format!(
                    "The root {} {what}. HAProxy could not enter it, and before 3.1 ends over it.",
                    path.display()
                ),
                file: Some(config.path(file).to_owned()),
                line: line.line,
                column: 0,
                help: Some("Make the directory where HAProxy runs, or correct `chroot`.".into()),
            })
        });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::set::Role;
    use super::*;

    #[test]
    fn a_root_that_is_not_there_is_found_where_it_is_certain() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("there")).unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let lines = |text: &str| {
            let files = [SetFile {
                destination: "/h.cfg".into(),
                role: Role::Config,
                mode: None,
                text: text.replace("DIR", &directory.path().display().to_string()),
            }];
            let found = missing(&files, None, Some(directory.path()));
            found.iter().map(|one| one.line).collect::<Vec<_>>()
        };
        assert_eq!(
            lines("global\n chroot DIR/there\n chroot there\n"),
            [0usize; 0]
        );
        assert_eq!(
            lines("global\n chroot DIR/none\nglobal\n chroot none\n chroot DIR/file\n"),
            [2, 4, 5]
        );
        assert_eq!(
            lines("global\n chroot \"$ROOT\"\n.if defined(X)\n chroot /none\n.endif\n"),
            [0usize; 0]
        );
        assert_eq!(lines("frontend f\n chroot /none\n"), [0usize; 0]);
        assert!(missing(&[], None, None).is_empty());
    }
}
