//! Certificates and lines of crt-lists that are told to the running worker, and read back.
//!
//! What the worker holds already is looked at first, so that a batch that ended in its middle can be told
//! again or taken back. A private key is never read back and never gets into a message.

use std::path::Path;

use super::super::plan::{CertificateStep, CertificateSteps};
use super::telling::{Outcome, Telling};
use crate::haproxy::runtime::{Answer, Command, CrtListEntry, Refusal, SendError};

fn refused<T>(why: String) -> Result<T, Outcome> {
    Err(Outcome::Refused { why })
}

fn differs<T>(why: String) -> Result<T, Outcome> {
    Err(Outcome::Differs { why })
}

fn unread(error: SendError) -> Outcome {
    Outcome::Differs {
        why: error.to_string(),
    }
}

impl Telling<'_> {
    /// New contents, then new lines that name them.
    pub(super) async fn add_certificates(&self, steps: &CertificateSteps) -> Result<(), Outcome> {
        if steps.is_empty() {
            return Ok(());
        }
        let names = self.session.certificates().await.map_err(unread)?;
        // HAProxy has one transaction; 2.6 would put our content into that of another certificate.
        if let Some(other) = names.transaction {
            return refused(format!(
                "somebody has begun to change the certificate {other} and has not ended it"
            ));
        }
        for step in &steps.contents {
            let held = names
                .held
                .iter()
                .find(|held| self.is_at(held, &step.destination));
            self.set_certificate(step, held.map(String::as_str)).await?;
        }
        for list in steps.lists.iter().filter(|list| !list.added.is_empty()) {
            let name = self.list_name(&list.destination).await?;
            let entries = self.session.crt_list(&name).await.map_err(unread)?;
            let there = |file: &String| entries.iter().any(|entry| entry.file == *file);
            for (file, line) in list.added.iter().filter(|(file, _)| !there(file)) {
                tracing::debug!(list = name, certificate = file, "a line is added");
                self.send_all(&[Command::AddCrtListLine {
                    list: name.clone(),
                    line: line.clone(),
                }])
                .await?;
            }
        }
        Ok(())
    }

    /// Lines that are gone, then certificates that nothing names. Ends with all lines read back.
    pub(super) async fn remove_certificates(
        &self,
        steps: &CertificateSteps,
    ) -> Result<(), Outcome> {
        for list in &steps.lists {
            let name = self.list_name(&list.destination).await?;
            let entries = self.session.crt_list(&name).await.map_err(unread)?;
            let there = |file: &&String| entries.iter().any(|entry| entry.file == **file);
            let delete = |file: &String| Command::DeleteCrtListLine {
                list: name.clone(),
                file: file.clone(),
            };
            let commands: Vec<Command> = list.removed.iter().filter(there).map(delete).collect();
            self.send_all(&commands).await?;
            let entries = self.session.crt_list(&name).await.map_err(unread)?;
            if !same_entries(entries, list.entries.clone()) {
                return differs(format!("the crt-list {name} has other lines"));
            }
        }
        if steps.forgotten.is_empty() {
            return Ok(());
        }
        let names = self.session.certificates().await.map_err(unread)?;
        for path in &steps.forgotten {
            let Some(held) = names.held.iter().find(|held| self.is_at(held, path)) else {
                continue;
            };
            let command = [Command::DeleteCertificate { file: held.clone() }];
            let batch = self.session.send(&command).await;
            match batch.answers.first() {
                Some(answer) if answer.is_done() => {}
                // A server that leaves may have it. It is only kept in memory.
                Some(Answer::Refused {
                    kind: Refusal::PointedAt,
                    ..
                }) => tracing::debug!(certificate = held, "a certificate is still in use"),
                Some(Answer::Refused { answer, .. }) => {
                    return differs(format!("it answered `del ssl cert {held}` with {answer:?}"));
                }
                _ => return differs(format!("it did not answer `del ssl cert {held}`")),
            }
        }
        Ok(())
    }

    async fn set_certificate(
        &self,
        step: &CertificateStep,
        held: Option<&str>,
    ) -> Result<(), Outcome> {
        let destination = step.destination.display();
        let file = match (held, &step.new) {
            (Some(held), _) => held.to_owned(),
            (None, Some(name)) if self.is_at(name, &step.destination) => {
                let file = name.clone();
                self.send_all(&[Command::NewCertificate { file }]).await?;
                name.clone()
            }
            (None, _) => return refused(format!("HAProxy knows no certificate {destination}")),
        };
        let before = self.session.certificate(&file).await.map_err(unread)?;
        if before.is_some_and(|before| before.ocsp) {
            return refused(format!(
                "the certificate {file} has an OCSP response, which only a load reads anew"
            ));
        }
        let set = Command::SetCertificate {
            file: file.clone(),
            pem: step.pem.clone(),
        };
        // Apart from each other: what follows a refused command in one exchange is carried out too.
        for command in [set, Command::CommitCertificate { file: file.clone() }] {
            if let Err(told) = self.send_all(&[command]).await {
                let abort = Command::AbortCertificate { file };
                let _ = self.session.send(&[abort]).await;
                return Err(told);
            }
        }
        let now = self.session.certificate(&file).await.map_err(unread)?;
        match now.and_then(|now| now.fingerprint) {
            Some(now) if now == step.fingerprint => Ok(()),
            _ => differs(format!("the certificate {file} is another one")),
        }
    }

    async fn list_name(&self, destination: &Path) -> Result<String, Outcome> {
        let names = self.session.crt_lists().await.map_err(unread)?;
        match names.into_iter().find(|name| self.is_at(name, destination)) {
            Some(name) => Ok(name),
            None => refused(format!(
                "HAProxy knows no crt-list {}",
                destination.display()
            )),
        }
    }

    /// Whether HAProxy's name for a file is that of this one.
    pub(super) fn is_at(&self, name: &str, destination: &Path) -> bool {
        let directory = self.directory.as_ref();
        Path::new(name) == destination
            || directory.is_some_and(|directory| directory.join(name) == destination)
    }
}

/// At run time a line is added behind all others, so their order is not compared.
pub(super) fn same_entries(mut found: Vec<CrtListEntry>, mut wanted: Vec<CrtListEntry>) -> bool {
    for entry in found.iter_mut().chain(&mut wanted) {
        for filter in &mut entry.filters {
            filter.make_ascii_lowercase();
        }
    }
    found.sort();
    wanted.sort();
    found == wanted
}
