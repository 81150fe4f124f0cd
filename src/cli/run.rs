//! `gatewright run`: the sidecar.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::agent::run::{Sidecar, Telling};
use crate::apply::execute::ApplyError;
use crate::apply::lock::LockError;
use crate::descriptors;
use crate::diagnostic::Diagnostic;
use crate::exit;
use crate::settings::{Settings, environment};
use crate::status::heartbeat::Heartbeat;
use crate::status::http::{Sources, StatusListener};
use crate::status::socket::{StatusSocket, cannot_be_made};

use super::flags::{SettingsFlag, SidecarFlags, SourceFlags, reads};
use super::{Failure, log, rights, wiring};

/// Watch the catalog and keep a running HAProxy equal to it
///
/// Renders the templates from what Consul says, validates the result with `haproxy -c` and the gate,
/// swaps the files in and makes HAProxy load them; a reload counts only when the running worker
/// reports the new revision. SIGHUP reads settings and templates again, SIGTERM ends, leaving HAProxy
/// alone unless Gatewright started it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "\
Examples:
  gatewright run --service airavata-api --listen 127.0.0.1:8080
  gatewright run -c /etc/gatewright/gatewright.toml
  gatewright run -c gatewright.toml --mode master --master-socket /run/haproxy-master.sock

More: `gatewright help settings`, `gatewright help modes`, `gatewright help consul`, `gatewright help serf`,
`gatewright help fabio`")]
pub struct Run {
    #[command(flatten)]
    settings: SettingsFlag,
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten)]
    sidecar: SidecarFlags,
}

impl Run {
    /// Runs the command.
    pub fn run(mut self) -> Result<u8, Failure> {
        self.settings.find(!self.source.say_what_to_render())?;
        let environment = environment::read();
        let settings = self.load(&environment)?;
        let _logging = log::start(&settings.log);
        descriptors::raise();
        let status_socket = settings.status_socket(&environment);
        let mode = wiring::mode_word(wiring::resolve_mode(&settings));
        let file = self.settings.config.clone();
        let services = settings.template.len();
        block_on(async move {
            // The first time, wrong templates are told before anything else happens, and HAProxy is left
            // alone. With a last good set they are no reason not to start: its servers go on. The loop
            // reads them again once it watches the files, so that no change in between is lost.
            let wrong = wiring::load_templates(&settings, &environment).err();
            let first = !settings.state_directory(&environment).exists();
            let wrong = match wrong {
                Some(wrong) if first => return Err(Failure::new(exit::TEMPLATE, wrong)),
                wrong => wrong,
            };
            wiring::check_destinations(&settings, &environment).map_err(open_failure)?;
            let applier = wiring::open_applier(&settings, &environment).map_err(open_failure)?;
            if let Some(wrong) = wrong
                && applier.last_good().is_none()
            {
                return Err(Failure::new(exit::TEMPLATE, wrong));
            }
            let (send, questions) = mpsc::channel(16);
            let sources = Sources {
                questions: send.clone(),
                heartbeat: Heartbeat::default(),
            };
            let listener = wiring::listen(&settings)
                .map(|listen| StatusListener::start(listen, sources.clone()))
                .transpose()
                .map_err(|error| {
                    Failure::one(exit::SETTINGS, Diagnostic::error("status-listen", error))
                })?;
            // With files that HAProxy can start from, nothing else is worth not to start it.
            let patient = applier.last_good().is_some();
            let socket = StatusSocket::listen(&status_socket, send, patient).map_err(|error| {
                let error = cannot_be_made(&status_socket, &error);
                Failure::one(
                    exit::FAILURE,
                    Diagnostic::error("status-socket", error)
                        .help("Name another one in status.socket."),
                )
            })?;
            tracing::info!(
                "Gatewright {} watches {} at {} for {services} template(s) and tells HAProxy by {mode}; status on {}.",
                env!("CARGO_PKG_VERSION"),
                settings.catalog.source.within(),
                wiring::source_place(&settings),
                status_socket.display()
            );
            if let Some(file) = &file {
                tracing::info!("{}", reads(file));
            }
            if let Some(listener) = &listener {
                tracing::info!("The status is served on http://{}/.", listener.address());
            }
            let parts = wiring::parts(settings, environment, file.as_deref())?;
            let again = Arc::new(move || {
                let environment = environment::read();
                self.load(&environment)
                    .and_then(|settings| {
                        wiring::parts(settings, environment, self.settings.config.as_deref())
                    })
                    .map_err(|failure| failure.diagnostics)
            });
            let telling = Telling {
                questions,
                sources,
                listener,
                socket,
            };
            Sidecar::run(parts, applier, again, telling)
                .await
                .map_err(|error| {
                    Failure::one(
                        exit::FAILURE,
                        Diagnostic::error("ended", format!("The sidecar cannot go on: {error}."))
                            .help("Start it again; it goes on from its last good set."),
                    )
                })?;
            tracing::info!("Ended.");
            Ok(exit::OK)
        })?
    }

    fn load(&self, environment: &crate::settings::Environment) -> Result<Settings, Failure> {
        let settings = self.settings.load(environment, |settings| {
            self.sidecar.apply(settings);
            self.source.apply(settings, environment);
            rights::drop_rights(settings);
        })?;
        wiring::says_what_to_render(&settings)?;
        Ok(settings)
    }
}

fn open_failure(error: ApplyError) -> Failure {
    let code = match &error {
        ApplyError::Lock(LockError::Held { .. }) => exit::LOCKED,
        ApplyError::Lock(LockError::Open(_))
        | ApplyError::NoConfiguration
        | ApplyError::Destination(_) => exit::SETTINGS,
        _ => exit::FAILURE,
    };
    Failure::one(code, Diagnostic::error("state", error.to_string()))
}

/// Runs a future on one thread; long work goes to threads of its own.
pub fn block_on<T>(future: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|error| {
            Failure::one(
                exit::FAILURE,
                Diagnostic::error(
                    "runtime",
                    format!("The program cannot start its loop: {error}."),
                ),
            )
        })?;
    let result = runtime.block_on(future);
    // A validation or rendering under way keeps nobody waiting.
    runtime.shutdown_background();
    Ok(result)
}
