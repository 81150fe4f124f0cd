//! A server that is removed gets nothing new, finishes what it has, and goes; one that comes back in
//! between was never away.

use std::thread::JoinHandle;

use super::gateway::{Gateway, HEAD, Mark};
use support::backend::Backend;
use support::consul::Consul;
use support::haproxies::{Version, haproxies};
use support::keep_alive::KeepAlive;

const TEMPLATE: &str = "
frontend raw
    mode tcp
    bind @second@
    default_backend raw

backend web
    balance roundrobin
    {{servers (service \"@service@\")}}

backend raw
    mode tcp
    balance roundrobin
    {{servers (service \"@service@\")}}
";

/// A gateway with two instances, of which the first has a request of each kind.
struct Scene<'a> {
    gateway: Gateway<'a>,
    one: Backend,
    two: Backend,
    /// A request over HTTP that the first instance holds.
    long: Option<JoinHandle<Result<String, String>>>,
    /// A connection over TCP to the first instance.
    raw: KeepAlive,
    mark: Mark,
}

impl Scene<'_> {
    fn new<'a>(consul: &'a Consul, version: &Version, more: &str) -> Scene<'a> {
        let template = format!("{HEAD}{TEMPLATE}");
        let mut gateway = Gateway::new(consul, version, &template, "", more);
        let (one, two) = (gateway.instance("one"), gateway.instance("two"));
        gateway.register("one", one.address(), 1);
        gateway.register("two", two.address(), 1);
        let mark = gateway.start(&[one.address(), two.address()]);
        one.hold(true);
        let (entrance, host) = (gateway.entrance, gateway.service.clone());
        let long = std::thread::spawn(move || {
            // The other instance holds nothing.
            for _ in 0..10 {
                let answer = KeepAlive::new(entrance).get(&host, "/hold");
                let answer = answer.map_err(|error| error.to_string())?;
                if answer.status != 200 {
                    return Err(format!("status {}", answer.status));
                }
                if answer.body.ends_with("one") {
                    return Ok(answer.body);
                }
            }
            Err("never at the first one".to_owned())
        });
        gateway.wait("a held request", || (one.held() == 1).then_some(()));
        let raw = gateway.wait("a connection to the first instance", || {
            let mut raw = KeepAlive::new(gateway.second);
            (raw.get("raw", "/").ok()?.body == one.name()).then_some(raw)
        });
        Scene {
            gateway,
            one,
            two,
            long: Some(long),
            raw,
            mark,
        }
    }

    /// Takes the first instance out of the catalog and sees that nothing new goes there.
    fn remove(&self) {
        self.gateway.deregister("one");
        self.gateway.converge(&[self.two.address()]);
        let before = self.one.requests();
        for _ in 0..20 {
            for address in [self.gateway.entrance, self.gateway.second] {
                let answer = KeepAlive::new(address).get("web", "/").unwrap();
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (200, self.two.name())
                );
            }
        }
        assert_eq!(self.one.requests(), before);
        for backend in ["web", "raw"] {
            self.gateway
                .wait_for_entry("leaving", &format!("{backend}/"));
            let leaving = self.gateway.server(backend, self.one.address()).unwrap();
            assert_ne!(leaving.admin, 0);
        }
    }

    /// What came of the held request.
    fn end(&mut self) -> Result<String, String> {
        let long = self.long.take().expect("it ends once");
        long.join().unwrap()
    }

    fn gone(&self) {
        self.gateway.wait("the removed servers to be gone", || {
            let left = ["web", "raw"]
                .iter()
                .any(|backend| self.gateway.server(backend, self.one.address()).is_some());
            (!left).then_some(())
        });
        self.gateway.wait_for_none("leaving");
        self.gateway.assert_not_reloaded(&self.mark);
    }
}

// H10
#[haproxies]
fn what_a_removed_server_has_ends_normally(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = Scene::new(&consul, &version, "");
    scene.remove();
    // It may take its time, and is not cut by a look at it.
    let worker = scene.gateway.mark();
    assert_eq!(worker, scene.mark);
    assert_eq!(scene.one.held(), 1);
    let answer = scene.raw.get("raw", "/").unwrap();
    assert_eq!(answer.body, scene.one.name(), "{version}");
    scene.raw.close();
    scene.one.hold(false);
    assert_eq!(scene.end().as_deref(), Ok(scene.one.name()), "{version}");
    scene.gone();
    scene.gateway.deregister("two");
}

// H10
#[haproxies(ends)]
fn what_is_left_after_the_time_is_cut_where_the_settings_say_so(version: Version) {
    let consul = Consul::start().unwrap();
    let more = "[haproxy.drain]\ntime = \"1s\"\nshutdown_sessions = true\n";
    let mut scene = Scene::new(&consul, &version, more);
    scene.gateway.deregister("one");
    assert!(scene.end().is_err(), "{version}");
    assert!(scene.raw.get("raw", "/").is_err(), "{version}");
    assert_eq!(scene.one.held(), 1, "{version}: it had not ended by itself");
    scene.gone();
    scene.one.hold(false);
    scene.gateway.deregister("two");
}

#[haproxies]
fn one_that_comes_back_while_it_drains_was_never_away(version: Version) {
    let consul = Consul::start().unwrap();
    let mut scene = Scene::new(&consul, &version, "");
    let ids = |scene: &Scene<'_>| {
        ["web", "raw"].map(|backend| {
            scene
                .gateway
                .server(backend, scene.one.address())
                .unwrap()
                .id
        })
    };
    let before = ids(&scene);
    scene.remove();
    scene.gateway.register("one", scene.one.address(), 1);
    scene
        .gateway
        .converge(&[scene.one.address(), scene.two.address()]);
    scene.gateway.wait_for_none("leaving");
    assert_eq!(ids(&scene), before, "{version}");
    assert_eq!(scene.gateway.servers().len(), 4, "{version}");
    // The same connection and the same request go on.
    let answer = scene.raw.get("raw", "/").unwrap();
    assert_eq!(answer.body, scene.one.name(), "{version}");
    assert_eq!(scene.one.held(), 1, "{version}");
    scene.one.hold(false);
    assert_eq!(scene.end().as_deref(), Ok(scene.one.name()), "{version}");
    for address in [scene.gateway.entrance, scene.gateway.second] {
        scene.gateway.wait("new requests to it", || {
            (KeepAlive::new(address).get("web", "/").ok()?.body == scene.one.name()).then_some(())
        });
    }
    scene.gateway.assert_not_reloaded(&scene.mark);
    scene.gateway.deregister("one");
    scene.gateway.deregister("two");
}
