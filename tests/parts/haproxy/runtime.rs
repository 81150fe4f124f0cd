//! The Runtime API of every version, by the real ones: what they answer to each command, which
//! keywords they take, and what a session makes of it, on the stats socket and through the master.

mod commands;
mod sessions;
mod table;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gatewright::apply::set::REVISION_VARIABLE;
use gatewright::haproxy::runtime::{self, Command, ServerRef, Session};
use gatewright::haproxy::socket::ask;
use gatewright::haproxy::stats::WorkerSocket;
use support::haproxies::Version;

use crate::real::{Haproxy, free_port};

/// A running HAProxy with backends of each kind, a map and a crt-list.
struct Worker {
    _haproxy: Haproxy,
    directory: tempfile::TempDir,
    version: runtime::Version,
    /// Its process id.
    pid: i32,
    /// Where `frontend tcp` listens, which hands TCP connections to `backend t`.
    port: u16,
}

impl Worker {
    async fn start(version: &Version) -> Worker {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let port = free_port();
        std::fs::write(path.join("m.map"), "/a v0\n/b v0\n").unwrap();
        write_certificates(path);
        let list = format!("{}\n", text(&path.join("a.pem")));
        std::fs::write(path.join("list.txt"), list).unwrap();
        let main = path.join("h.cfg");
        std::fs::write(&main, configuration(path, port)).unwrap();
        let haproxy = Haproxy::start(version, path, &main).await;
        let wanted = path.join("stats.sock");
        let running = WorkerSocket::Stats(wanted.into());
        let each = Duration::from_secs(20);
        let running = running
            .await_running(each, each, REVISION_VARIABLE, |_| true)
            .await
            .unwrap();
        let version = runtime::Version::parse(&running.version).unwrap();
        let worker = Worker {
            _haproxy: haproxy,
            directory,
            version,
            pid: running.pid,
            port,
        };
        worker.await_master().await;
        worker
    }

    /// The master refuses connections for some milliseconds after its start.
    async fn await_master(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let socket = WorkerSocket::Master(self.path("master.sock"));
        while socket
            .running(Duration::from_secs(5), REVISION_VARIABLE)
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "the master answers");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str) -> String {
        text(&self.path(name))
    }

    /// Both ways to it.
    fn sessions(&self) -> [Session; 2] {
        [
            WorkerSocket::Stats(self.path("stats.sock").into()),
            WorkerSocket::Worker {
                master: self.path("master.sock"),
                pid: self.pid,
            },
        ]
        .map(|socket| Session {
            socket,
            version: self.version,
            limit: Duration::from_secs(20),
            variable: REVISION_VARIABLE.to_owned(),
        })
    }

    /// Asks by hand, past the code that is tested.
    async fn ask(&self, line: &str) -> String {
        let stats = self.path("stats.sock").into();
        ask(&stats, line, Duration::from_secs(20)).await.unwrap()
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn server(backend: &str, server: &str) -> ServerRef {
    ServerRef::new(backend, server)
}

fn add(at: ServerRef, options: &str) -> Command {
    Command::AddServer {
        at,
        address: [127, 0, 0, 1].into(),
        port: 8080,
        options: options
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| vec![word.to_owned()])
            .collect(),
    }
}

fn configuration(path: &Path, port: u16) -> String {
    let path = path.display();
    let algorithms: String = table::ALGORITHMS
        .iter()
        .enumerate()
        .map(|(index, (balance, hash_type, _))| {
            let balance = match balance.is_empty() {
                true => String::new(),
                false => format!("    balance {balance}\n"),
            };
            let hash_type = match hash_type.is_empty() {
                true => String::new(),
                false => format!("    hash-type {hash_type}\n"),
            };
            format!("backend algorithm{index}\n{balance}{hash_type}    server s 127.0.0.1:1\n")
        })
        .collect();
    format!(
        "global\n    stats socket {path}/stats.sock level admin\n    hard-stop-after 5s\n    httpclient.ssl.verify none\n\
         defaults\n    mode http\n    timeout connect 5s\n    timeout client 20s\n    timeout server 20s\n\
         frontend f\n    bind {path}/f.sock\n    bind {path}/tls.sock ssl crt-list {path}/list.txt\n    \
         http-request set-header x %[path,map({path}/m.map)]\n    default_backend b\n\
         frontend tcp\n    mode tcp\n    bind 127.0.0.1:{port}\n    default_backend t\n\
         backend t\n    mode tcp\n    server echo {path}/echo.sock\n\
         backend b\n    balance roundrobin\n    server s1 127.0.0.1:1001 id 11\n    server s2 127.0.0.1:1002 id 12\n\
         backend static\n    balance static-rr\n    server s1 127.0.0.1:1001\n\
         backend named\n    use-server used if {{ path /x }}\n    server used 127.0.0.1:1001\n    \
         server tracked 127.0.0.1:1001 check\n    server tracking 127.0.0.1:1001 track named/tracked\n    \
         server tls 127.0.0.1:1 ssl verify required ca-file {path}/a.crt crl-file {path}/crl.pem crt {path}/a.pem\n\
         {algorithms}"
    )
}

/// `a.pem` with its `a.crt` and `crl.pem`, and `b.pem`, which the configuration does not name.
fn write_certificates(path: &Path) {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer,
        KeyIdMethod, KeyPair, KeyUsagePurpose, SerialNumber, date_time_ymd,
    };
    for name in ["a", "b"] {
        let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let pem = format!("{certificate}{}", key.serialize_pem());
        std::fs::write(path.join(format!("{name}.pem")), pem).unwrap();
        std::fs::write(path.join(format!("{name}.crt")), certificate).unwrap();
        if name == "b" {
            break;
        }
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2124, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::new(params, key)).unwrap();
        std::fs::write(path.join("crl.pem"), list.pem().unwrap()).unwrap();
    }
}
