//! What a person does at HAProxy's socket: a state stays, a weight by the settings' choice, and what is
//! no server of the file's any more is put right.

use super::gateway::{Gateway, HEAD, Mark};
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::keep_alive::KeepAlive;

const TEMPLATE: &str = "
backend web
    balance roundrobin
    {{servers (service \"@service@\") weight=true}}
";

struct Scene<'a> {
    gateway: Gateway<'a>,
    instances: Vec<Backend>,
    mark: Mark,
}

impl Scene<'_> {
    /// Three instances of weight 10.
    fn new<'a>(consul: &'a Consul, version: &Version, haproxy: &str) -> Scene<'a> {
        let template = format!("{HEAD}{TEMPLATE}");
        let mut gateway = Gateway::new(consul, version, &template, haproxy, "");
        let instances: Vec<Backend> = (0..3).map(|n| gateway.instance(&n.to_string())).collect();
        for (n, instance) in instances.iter().enumerate() {
            gateway.register(&n.to_string(), instance.address(), 10);
        }
        let addresses: Vec<_> = instances.iter().map(Backend::address).collect();
        let mark = gateway.start(&addresses);
        Scene {
            gateway,
            instances,
            mark,
        }
    }

    /// The name of the server of an instance.
    fn name(&self, number: usize) -> String {
        let server = self.gateway.server("web", self.instances[number].address());
        format!("web/{}", server.unwrap().name)
    }

    fn admin(&self, number: usize) -> u32 {
        let server = self.gateway.server("web", self.instances[number].address());
        server.unwrap().admin
    }

    fn weight(&self, number: usize) -> u32 {
        let server = self.gateway.server("web", self.instances[number].address());
        server.map_or(0, |server| server.weight)
    }

    /// Gives an instance another weight in the catalog and waits until the worker has it.
    fn change(&self, number: usize, weight: u16) {
        let address = self.instances[number].address();
        self.gateway.register(&number.to_string(), address, weight);
        self.gateway.wait(&format!("the weight {weight}"), || {
            (self.weight(number) == u32::from(weight)).then_some(())?;
            self.gateway.confirmed()
        });
    }

    fn divergences(&self) -> u64 {
        self.gateway.status().unwrap()["haproxy"]["divergences"]
            .as_u64()
            .unwrap()
    }

    fn end(self) {
        self.gateway.assert_not_reloaded(&self.mark);
        for n in 0..4 {
            let id = format!("{}-{n}", self.gateway.service);
            let _ = self.gateway.consul.deregister(&id);
        }
    }
}

// H12
#[haproxies]
fn a_state_and_a_weight_set_by_hand_stay(version: Version) {
    let consul = Consul::start().unwrap();
    let scene = Scene::new(&consul, &version, "");
    let (zero, one) = (scene.name(0), scene.name(1));
    scene
        .gateway
        .by_hand(&format!("set server {zero} state maint"));
    // A comparison of all servers has seen it, and left it.
    scene
        .gateway
        .wait_for_entry("by_hand", &format!("The server {zero} is in maint"));
    let held = scene.admin(0);
    assert_ne!(held, 0, "{version}");
    // Another server's change leaves it, too.
    scene.change(2, 20);
    assert_eq!(scene.admin(0), held, "{version}");
    // So does a change of its own weight and one that adds a server.
    scene.change(0, 30);
    assert_eq!(scene.admin(0), held, "{version}");

    scene
        .gateway
        .by_hand(&format!("set server {one} state drain"));
    scene.gateway.by_hand(&format!("set server {one} weight 3"));
    scene
        .gateway
        .wait_for_entry("by_hand", &format!("The server {one} is in drain"));
    scene
        .gateway
        .wait_for_entry("by_hand", &format!("The server {one} has the weight 3"));
    scene.change(2, 25);
    assert_eq!((scene.admin(0), scene.weight(1)), (held, 3), "{version}");
    assert_ne!(scene.admin(1), 0, "{version}");
    // Only the third one serves.
    for _ in 0..10 {
        let answer = KeepAlive::new(scene.gateway.entrance)
            .get("web", "/")
            .unwrap();
        assert_eq!(answer.body, scene.instances[2].name(), "{version}");
    }
    // The file's weight is set when it changes.
    scene.change(1, 40);
    assert_ne!(scene.admin(1), 0, "{version}");

    scene
        .gateway
        .by_hand(&format!("set server {zero} state ready"));
    scene
        .gateway
        .by_hand(&format!("set server {one} state ready"));
    scene.gateway.wait_for_none("by_hand");
    assert_eq!(scene.divergences(), 0, "{version}");
    scene.end();
}

// H12
#[haproxies(ends)]
fn a_weight_set_by_hand_is_taken_back_where_the_settings_say_so(version: Version) {
    let consul = Consul::start().unwrap();
    let scene = Scene::new(&consul, &version, "hand_weights = \"take-back\"");
    let name = scene.name(0);
    scene
        .gateway
        .by_hand(&format!("set server {name} weight 3"));
    scene.gateway.wait("the file's weight", || {
        (scene.weight(0) == 10 && scene.divergences() == 1).then_some(())
    });
    scene.end();
}

// H12
#[haproxies]
fn a_server_that_somebody_deleted_or_readdressed_is_put_right(version: Version) {
    let consul = Consul::start().unwrap();
    let scene = Scene::new(&consul, &version, "");
    let addresses: Vec<_> = scene.instances.iter().map(Backend::address).collect();
    let (zero, one) = (scene.name(0), scene.name(1));
    scene
        .gateway
        .by_hand(&format!("set server {zero} state maint"));
    scene.gateway.wait("the deletion", || {
        // Taken literally by no version while a connection is left.
        scene.gateway.by_hand(&format!("del server {zero}"));
        let left = scene.gateway.server("web", addresses[0]);
        (left.is_none() || scene.divergences() > 0).then_some(())
    });
    scene.gateway.wait("the deleted server", || {
        (scene.divergences() == 1 && scene.gateway.server("web", addresses[0])?.admin == 0)
            .then_some(())
    });
    scene.gateway.converge(&addresses);
    assert_eq!(scene.name(0), zero, "{version}");

    let elsewhere = scene.gateway.instance("elsewhere").address();
    scene.gateway.by_hand(&format!(
        "set server {one} addr {} port {}",
        elsewhere.ip(),
        elsewhere.port()
    ));
    scene.gateway.wait("the address of the file", || {
        (scene.divergences() == 2).then_some(())
    });
    scene.gateway.converge(&addresses);
    assert_eq!(scene.name(1), one, "{version}");

    // One that is not in the file takes no traffic for long, and goes.
    let stranger = scene.gateway.instance("stranger");
    let at = stranger.address();
    scene.gateway.by_hand(&format!(
        "add server web/stranger {at};enable server web/stranger"
    ));
    scene.gateway.wait("the stranger to be gone", || {
        let left = scene.gateway.server("web", at);
        (scene.divergences() == 3 && left.is_none()).then_some(())
    });
    scene.gateway.converge(&addresses);
    scene.end();
}
