//! Other programs that do the same, where CONSUL_TEMPLATE or FABIO names one: consul-template, which
//! checks and reloads HAProxy at each change, and Fabio, which is a proxy itself.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::catalog::Catalog;
use super::options::Options;
use super::subject::{Subject, free_address};
use support::haproxies::Version;
use support::haproxy::HAProxy;
use support::process::{Process, command};
use support::{Outcome, temp, tools};

/// A program that is named.
#[derive(Debug, Clone, Copy)]
pub enum Peer<'a> {
    /// consul-template.
    ConsulTemplate(&'a Path),
    /// Fabio.
    Fabio(&'a Path),
}

/// Those that are named.
pub fn named(options: &Options) -> impl Iterator<Item = Peer<'_>> {
    let first = options.consul_template.as_deref().map(Peer::ConsulTemplate);
    let second = options.fabio.as_deref().map(Peer::Fabio);
    first.into_iter().chain(second)
}

/// A remark for each that is not.
pub fn missing(options: &Options) -> Vec<String> {
    [
        (
            "consul-template",
            "CONSUL_TEMPLATE",
            &options.consul_template,
        ),
        ("Fabio", "FABIO", &options.fabio),
    ]
    .into_iter()
    .filter(|(_, _, path)| path.is_none())
    .map(|(name, variable, _)| format!("{name} was not measured: {variable} is not set."))
    .collect()
}

impl Peer<'_> {
    /// The service it follows.
    pub fn service(self) -> &'static str {
        match self {
            Peer::ConsulTemplate(_) => "moved-consul-template",
            Peer::Fabio(_) => "moved-fabio",
        }
    }

    /// Starts it with the services of `size` other servers.
    pub fn start(self, catalog: &Catalog, version: &str, size: usize) -> Outcome<Box<dyn Subject>> {
        let running = match self {
            Peer::ConsulTemplate(program) => consul_template(program, catalog, version, size)?,
            Peer::Fabio(program) => fabio(program, catalog)?,
        };
        Ok(Box::new(running))
    }
}

/// A running peer. The order of the fields is the order in which they are stopped.
struct Running {
    name: &'static str,
    process: Process,
    haproxy: Option<(HAProxy, PathBuf)>,
    _directory: TempDir,
    entrance: SocketAddr,
    service: &'static str,
    path: String,
}

fn consul_template(
    program: &Path,
    catalog: &Catalog,
    version: &str,
    size: usize,
) -> Outcome<Running> {
    let service = Peer::ConsulTemplate(program).service();
    let directory = temp::directory()?;
    let entrance = free_address()?;
    let stats = directory.path().join("stats.sock");
    let head = format!(
        "global\n    fd-hard-limit 20000\n    hard-stop-after 30s\n    stats socket {} mode 600 level admin\n\
         defaults\n    mode http\n    retries 3\n    option redispatch 1\n    option idle-close-on-response\n    timeout connect 2s\n    timeout client 60s\n    timeout server 60s\n\
         frontend http.in\n    bind {entrance}\n    default_backend {service}\n",
        stats.display()
    );
    let haproxy = HAProxy::start(
        &Version::known(version)?,
        &format!("{head}backend {service}\n"),
    )?;
    let mut template = head;
    for name in std::iter::once(service.to_owned()).chain(Catalog::other_names(size)) {
        template.push_str(&format!(
            "backend {name}\n    balance roundrobin\n{{{{range service \"{name}\"}}}}    server {{{{.ID}}}} {{{{.Address}}}}:{{{{.Port}}}} weight {{{{.Weights.Passing}}}}\n{{{{end}}}}"
        ));
    }
    let template_file = directory.path().join("haproxy.ctmpl");
    write(&template_file, &template)?;
    // What its users do: check the file that is there already, then reload.
    let script = directory.path().join("reload.py");
    write(
        &script,
        &format!(
            "import socket, subprocess, sys\nif subprocess.run([{binary:?}, '-c', '-q', '-f', {file:?}]).returncode:\n    sys.exit(1)\ns = socket.socket(socket.AF_UNIX)\ns.connect({master:?})\ns.sendall(b'reload\\n')\ns.shutdown(socket.SHUT_WR)\nwhile s.recv(4096): pass\n",
            binary = tools::haproxy(version)?.display().to_string(),
            file = haproxy.config().display().to_string(),
            master = haproxy.master_socket().display().to_string(),
        ),
    )?;
    let words = [
        format!("-consul-addr={}", catalog.consul().address()),
        format!(
            "-template={}:{}:python3 {}",
            template_file.display(),
            haproxy.config().display(),
            script.display()
        ),
    ];
    let log = directory.path().join("log");
    Ok(Running {
        name: "consul-template",
        process: Process::start("consul-template", &mut command(program, words), &log)?,
        haproxy: Some((haproxy, stats)),
        _directory: directory,
        entrance,
        service,
        path: "/".to_owned(),
    })
}

fn fabio(program: &Path, catalog: &Catalog) -> Outcome<Running> {
    let service = Peer::Fabio(program).service();
    let directory = temp::directory()?;
    let (entrance, page) = (free_address()?, free_address()?);
    let words = [
        "-registry.consul.addr".to_owned(),
        catalog.consul().address().to_string(),
        "-registry.consul.register.enabled=false".to_owned(),
        "-proxy.addr".to_owned(),
        entrance.to_string(),
        "-ui.addr".to_owned(),
        page.to_string(),
        "-log.level=WARN".to_owned(),
    ];
    let log = directory.path().join("log");
    Ok(Running {
        name: "Fabio",
        process: Process::start("Fabio", &mut command(program, words), &log)?,
        haproxy: None,
        _directory: directory,
        entrance,
        service,
        path: format!("/{service}"),
    })
}

impl Subject for Running {
    fn name(&self) -> &str {
        self.name
    }

    fn entrance(&self) -> SocketAddr {
        self.entrance
    }

    fn path(&self) -> String {
        self.path.clone()
    }

    fn service(&self) -> &str {
        self.service
    }

    fn stats(&self) -> Option<&Path> {
        self.haproxy.as_ref().map(|(_, stats)| stats.as_path())
    }

    fn file(&self) -> Option<PathBuf> {
        self.haproxy.as_ref().map(|(haproxy, _)| haproxy.config())
    }

    fn ended(&mut self) -> Option<String> {
        let running = self.process.is_running();
        (!running).then(|| format!("{} ended: {}", self.name, self.process.last_lines(5)))
    }
}

fn write(path: &Path, text: &str) -> Outcome<()> {
    std::fs::write(path, text)
        .map_err(|error| format!("{} cannot be written: {error}.", path.display()))
}
