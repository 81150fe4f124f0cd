//! One batch of commands to one worker: sent in order, then read back until the worker runs what it
//! should. Decides nothing about what follows.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::super::plan::{Difference, Policy, Pool, Steps, is_settled, of_backend};
use super::super::set::Revision;
use crate::crash;
use crate::haproxy::runtime::{Answer, Command, ServerRef, ServerRow, Session};
use crate::haproxy::stats::Running;

/// How long an address that was set may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(1);

/// What came of telling a worker.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It was read back and runs what it should.
    Runs,
    /// It runs something else, or could not be read.
    Differs {
        /// What, in words.
        why: String,
    },
    /// It does not take such commands.
    Refused {
        /// What it said.
        why: String,
    },
}

/// One batch and what must be so after it.
pub(super) struct Telling<'a> {
    pub session: &'a Session,
    pub running: &'a Running,
    pub old: &'a Revision,
    pub new: &'a Revision,
    pub pools: Vec<&'a Pool>,
    pub backends: &'a [String],
    /// Where the paths of HAProxy's maps start.
    pub directory: Option<PathBuf>,
}

impl Telling<'_> {
    /// Sends everything in order and reads back what the worker then runs.
    pub async fn tell(&self, steps: &Steps, policy: Policy, said: &Notify) -> Outcome {
        let sent = match steps.cost.commands {
            0 => Ok(()),
            _ => self.send(steps).await,
        };
        said.notify_one();
        if let Err(outcome) = sent {
            return outcome;
        }
        self.await_settled(|at, what| is_settled(what, steps.servers.speaks_of(at, what), policy))
            .await
    }

    /// Reads back until nothing differs but what is `fine`. From 3.0 on an address that was set is shown
    /// a moment later; no other difference goes away by itself, but all are given that moment.
    async fn await_settled(&self, fine: impl Fn(&ServerRef, &Difference) -> bool) -> Outcome {
        let deadline = Instant::now() + IN_FORCE;
        let mut pause = Duration::from_millis(1);
        loop {
            let Some(rows) = read(self.session, self.backends, self.running).await else {
                return Outcome::Differs {
                    why: "it could not be read back, or is another worker".to_owned(),
                };
            };
            let of = |pool: &Pool| -> Vec<(ServerRef, Difference)> {
                let found = pool.compare(of_backend(&rows, &pool.backend)).into_iter();
                found
                    .map(|(server, what)| (ServerRef::new(&pool.backend, server), what))
                    .collect()
            };
            let mut found = self.pools.iter().flat_map(|pool| of(pool));
            match found.find(|(at, what)| !fine(at, what)) {
                None => return Outcome::Runs,
                Some((at, what)) if Instant::now() >= deadline => {
                    return Outcome::Differs {
                        why: format!("{at} {what}"),
                    };
                }
                Some(_) => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    async fn send(&self, steps: &Steps) -> Result<(), Outcome> {
        let mut commands = Vec::new();
        if self.old != self.new {
            commands.push(Command::SetVariable {
                name: self.session.variable.clone(),
                value: format!("{}-{}", self.old, self.new),
            });
        }
        commands.extend(steps.servers.first.iter().cloned());
        self.send_all(&commands).await?;
        if !steps.servers.ready.is_empty() {
            let moved = |at: &ServerRef, what: &Difference| {
                *what != Difference::Address || !steps.servers.touched.contains(at)
            };
            match self.await_settled(moved).await {
                Outcome::Runs => self.send_all(&steps.servers.ready).await?,
                outcome => return Err(outcome),
            }
        }
        self.add_certificates(&steps.certificates).await?;
        for map in &steps.maps {
            self.exchange_map(map).await?;
        }
        for acl in &steps.acls {
            self.exchange_acl(acl).await?;
        }
        self.send_all(&steps.servers.last).await?;
        self.remove_certificates(&steps.certificates).await
    }

    pub(super) async fn send_all(&self, commands: &[Command]) -> Result<(), Outcome> {
        if commands.is_empty() {
            return Ok(());
        }
        let batch = self.session.send(commands).await;
        crash::point("commands answered");
        if let Some(error) = batch.error {
            return Err(Outcome::Differs {
                why: error.to_string(),
            });
        }
        let why = match batch.refusal() {
            None if batch.is_done(commands.len()) => return Ok(()),
            None => "not every command was answered".to_owned(),
            // A pattern may be a key, and HAProxy quotes it.
            Some((at, _)) if let Command::AddAclPattern { acl, .. } = &commands[at] => {
                format!("it refused pattern {} of {acl}", at + 1)
            }
            Some((at, Answer::Refused { answer, .. })) => format!(
                "it answered `{}` with {answer:?}",
                first_line(&commands[at])
            ),
            Some((at, _)) => format!("it did not do `{}`", first_line(&commands[at])),
        };
        Err(Outcome::Differs { why })
    }
}

fn first_line(command: &Command) -> String {
    let text = command.encode().unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The servers of these backends, if the worker is still the same and not about to end.
pub(super) async fn read(
    session: &Session,
    backends: &[String],
    running: &Running,
) -> Option<Vec<ServerRow>> {
    if backends.is_empty() {
        return Some(Vec::new());
    }
    let (now, rows) = session.servers(Some(backends)).await.ok()?;
    (now.pid == running.pid && !now.stopping).then_some(rows)
}

/// Gives the worker its revision.
pub(super) async fn mark(session: &Session, revision: &str) -> bool {
    let command = Command::SetVariable {
        name: session.variable.clone(),
        value: revision.to_owned(),
    };
    let command = [command];
    crash::point("all but the revision told");
    // Said twice it means the same, and a lost answer must not cost a reload.
    session.send(&command).await.is_done(1) || session.send(&command).await.is_done(1)
}
