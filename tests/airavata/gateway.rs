//! A Consul with instances, and a Gatewright with a HAProxy for each version, all on the examples' templates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::consul::Consul;
use support::gatewright::{Gatewright, Setup};
use support::haproxies::Version;
use support::haproxy::{self, ServerState, cli};
use support::thrift::instance::Instance;
use support::thrift::{Client, Form};
use support::{ports, temp, tools, wait_for};

/// How long anything may take that is waited for.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How long a client waits for a reply.
pub const REPLY: Duration = Duration::from_secs(10);
/// The service, and the backend of the same name.
pub const SERVICE: &str = "airavata-api";

/// The key of the gateway's certificate.
pub const CERTIFICATE: &str = "airavata/gateway.pem";

/// The example, which is also an instance.
pub fn program() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_gatewright")).with_file_name("examples/airavata")
}

/// Consul and the instances, which all gateways share.
pub struct Scene {
    pub instances: Vec<Instance>,
    pub consul: Consul,
    directory: tempfile::TempDir,
}

impl Scene {
    pub fn new(names: &[&str]) -> Scene {
        let mut scene = Scene::empty();
        for name in names {
            scene.add(name);
        }
        scene
    }

    pub fn empty() -> Scene {
        Scene {
            instances: Vec::new(),
            consul: Consul::start().unwrap(),
            directory: temp::directory().unwrap(),
        }
    }

    /// Starts an instance and registers it. Consul's check of it passes until somebody says otherwise.
    pub fn add(&mut self, name: &str) {
        self.add_to(SERVICE, name, &Form::default());
    }

    /// The same of another service.
    pub fn add_to(&mut self, service: &str, name: &str, form: &Form) {
        let directory = self.directory.path();
        let instance = Instance::start(&program(), name, form, directory).unwrap();
        self.consul
            .register_checked(service, name, instance.address)
            .unwrap();
        self.instances.retain(|one| one.name != name);
        self.instances.push(instance);
    }

    pub fn instance(&mut self, name: &str) -> &mut Instance {
        let found = self.instances.iter_mut().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("there is no instance {name}"))
    }

    /// A gateway that serves.
    pub fn gateway(&self, version: &Version) -> Gateway {
        let gateway = Gateway::start(self, version, None);
        gateway.wait("all instances to be up", || {
            let up = self.instances.iter();
            up.map(|one| gateway.server(one.address))
                .all(|server| server.is_some_and(|server| server.operational == 2))
        });
        gateway.client().version().unwrap();
        gateway
    }
}

/// One HAProxy under Gatewright. The fields are stopped in their order.
pub struct Gateway {
    gatewright: Gatewright,
    pub setup: Setup,
    pub version: Version,
    pub address: SocketAddr,
    /// The backend that is looked at.
    pub backend: &'static str,
}

impl Gateway {
    /// With a port for TLS, the certificate is what the key [`CERTIFICATE`] holds.
    pub fn start(scene: &Scene, version: &Version, tls: Option<u16>) -> Gateway {
        let setup = Setup::new().unwrap();
        let tls = tls.map_or_else(String::new, |port| {
            let template = format!("{{{{key \"{CERTIFICATE}\"}}}}");
            setup.file("gateway.pem.hbs", &template).unwrap();
            format!(
                r#"tls_listen = "127.0.0.1:{port}"
certificate = "{{dir}}gateway.pem"
[[template]]
source = "gateway.pem.hbs"
destination = "{{dir}}gateway.pem"
kind = "other"
"#
            )
        });
        let [api, profile] = ports::free().unwrap();
        let parameters = format!(
            r#"api_listen = "127.0.0.1:{api}"
profile_listen = "127.0.0.1:{profile}"
check_exception = false
check_interval = "500ms"
timeout_check = "700ms"
{tls}"#
        );
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, api));
        Gateway::of(
            setup,
            scene,
            version,
            ("thrift", SERVICE),
            address,
            &parameters,
        )
    }

    /// A set-up with these parameters. Its frontend listens on `address`, which is one of them.
    pub fn of(
        setup: Setup,
        scene: &Scene,
        version: &Version,
        (set_up, backend): (&str, &'static str),
        address: SocketAddr,
        parameters: &str,
    ) -> Gateway {
        let template = tools::root().join(format!("examples/airavata/{set_up}/haproxy.cfg.hbs"));
        setup
            .settings(&format!(
                r#"[consul]
addresses = ["{consul}"]
[haproxy]
mode = "supervise"
binary = "{binary}"
master_socket = "{{dir}}master.sock"
[guard]
max_loss = "75%"
[state]
directory = "{{dir}}state"
[status]
socket = "{{dir}}status.sock"
[apply]
reload_interval = "200ms"
[[template]]
source = "{template}"
destination = "{{dir}}haproxy.cfg"
[parameters]
admin_socket = "{{dir}}admin.sock"
{parameters}"#,
                consul = scene.consul.url(),
                binary = version.program().display(),
                template = template.display(),
            ))
            .unwrap();
        Gateway {
            gatewright: setup.run().unwrap(),
            setup,
            version: version.clone(),
            address,
            backend,
        }
    }

    /// A new connection. HAProxy takes it at once, and an instance when it has one.
    pub fn client(&self) -> Client {
        Client::connect(self.address, &Form::default(), REPLY).unwrap()
    }

    /// A connection that goes to this instance. Those to others stay until then: the instance with the fewest
    /// connections gets the next one.
    pub fn client_of(&self, name: &str) -> Client {
        let mut others = Vec::new();
        wait_for(LIMIT, &format!("a connection to {name}"), || {
            let mut client = self.client();
            if client.version().unwrap() == name {
                return Some(client);
            }
            others.push(client);
            None
        })
        .unwrap()
    }

    /// How HAProxy sees the instance.
    pub fn server(&self, address: SocketAddr) -> Option<ServerState> {
        let servers = haproxy::servers(&self.socket()).ok()?;
        let mut of_service = servers
            .into_iter()
            .filter(|one| one.backend == self.backend);
        of_service.find(|one| one.address == address)
    }

    /// A column of `show stat` for the backend (`BACKEND`), or for a server of it.
    pub fn statistic(&self, server: &str, column: &str) -> String {
        let text = cli(&self.socket(), "show stat").unwrap();
        let found = statistic(&text, self.backend, server, column);
        found.unwrap_or_else(|| panic!("no {column} of {server}: {text}"))
    }

    /// The same as a number.
    pub fn count(&self, column: &str) -> u64 {
        self.statistic("BACKEND", column).parse().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.setup.directory().join("admin.sock")
    }

    /// Whether `show info` has this line.
    pub fn information(&self, line: &str) -> bool {
        cli(&self.socket(), "show info").is_ok_and(|text| text.lines().any(|one| one == line))
    }

    /// The worker, which another one follows at a reload.
    pub fn worker(&self) -> u32 {
        haproxy::worker(&self.socket()).unwrap()
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, probe: impl Fn() -> bool) {
        let what = format!("{}: {what}", self.version);
        wait_for(LIMIT, &what, || probe().then_some(())).unwrap_or_else(|error| {
            let servers = haproxy::servers(&self.socket());
            panic!("{error}\n{servers:?}\n{}", self.gatewright.log())
        });
    }
}

/// A column of `show stat` for a server.
pub fn statistic(text: &str, proxy: &str, server: &str, column: &str) -> Option<String> {
    let mut rows = text.trim_start_matches("# ").lines();
    let index = rows.next()?.split(',').position(|name| name == column)?;
    let start = format!("{proxy},{server},");
    let row = rows.find(|row| row.starts_with(&start))?;
    // The last outcome, while another check is under way, begins with a star.
    let value = row.split(',').nth(index)?;
    Some(value.trim_start_matches("* ").to_owned())
}
