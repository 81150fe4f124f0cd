//! Whether a worker holds files as they are on the disk, as far as it shows them: maps, patterns of ACLs,
//! certificates and crt-lists. Reads only; a file that the worker does not use proves nothing.

use super::super::plan::map_entries;
use super::super::plan::{acl_patterns, configuration, crt_list, fingerprint, is_pattern_file};
use super::super::set::{Role, SetFile};
use super::certificates::same_entries;
use super::patterns::refused;
use super::telling::{Outcome, Telling};

impl Telling<'_> {
    /// `others` are the configurations that name the files. What cannot be read is refused: that says nothing of what the
    /// worker holds.
    pub(super) async fn holds(&self, files: &[SetFile], others: &[SetFile]) -> Result<(), Outcome> {
        let of_role = |role| files.iter().filter(move |file| file.role == role);
        let unlike = |kind: &str, name: &str| {
            Err(Outcome::Differs {
                why: format!("its {kind} {name} is another than the file"),
            })
        };
        if of_role(Role::Map).next().is_some() {
            let loaded = self.session.maps().await.map_err(refused)?;
            for file in of_role(Role::Map) {
                let entries = map_entries(&file.text).into_iter();
                let wanted: Vec<_> = entries.map(|one| (one.key, one.value)).collect();
                for map in self.names_of(&loaded, &file.destination)? {
                    let entries = self.session.map_entries(&map.path, None).await;
                    if entries.map_err(refused)? != wanted {
                        return unlike("map", &map.path);
                    }
                }
            }
        }
        let config = configuration(others);
        let patterns =
            of_role(Role::Other).filter(|file| is_pattern_file(&config, &file.destination));
        let patterns: Vec<&SetFile> = patterns.collect();
        if !patterns.is_empty() {
            let loaded = self.session.acls().await.map_err(refused)?;
            for file in patterns {
                let mut wanted = acl_patterns(&file.text);
                wanted.sort_unstable();
                for acl in self.names_of(&loaded, &file.destination)? {
                    let mut found = self
                        .session
                        .acl_patterns(&acl.path)
                        .await
                        .map_err(refused)?;
                    found.sort_unstable();
                    if !acl.of_map && found != wanted {
                        return unlike("pattern file", &acl.path);
                    }
                }
            }
        }
        let certificates =
            of_role(Role::Other).filter_map(|file| Some((file, fingerprint(&file.text)?)));
        let certificates: Vec<(&SetFile, String)> = certificates.collect();
        if !certificates.is_empty() {
            let names = self.session.certificates().await.map_err(refused)?;
            for (file, wanted) in certificates {
                for name in names
                    .held
                    .iter()
                    .filter(|name| self.is_at(name, &file.destination))
                {
                    let found = self.session.certificate(name).await.map_err(refused)?;
                    if found.and_then(|found| found.fingerprint) != Some(wanted.clone()) {
                        return unlike("certificate", name);
                    }
                }
            }
        }
        if of_role(Role::CrtList).next().is_some() {
            let base = config.global_value("crt-base");
            let names = self.session.crt_lists().await.map_err(refused)?;
            for file in of_role(Role::CrtList) {
                // What we do not understand of it we cannot compare.
                let Some(wanted) = crt_list(&file.text, base) else {
                    continue;
                };
                for name in names
                    .iter()
                    .filter(|name| self.is_at(name, &file.destination))
                {
                    let found = self.session.crt_list(name).await.map_err(refused)?;
                    if !same_entries(found, wanted.clone()) {
                        return unlike("crt-list", name);
                    }
                }
            }
        }
        Ok(())
    }
}
