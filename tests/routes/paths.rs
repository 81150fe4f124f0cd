//! Hosts without a slash, and paths that are encoded, not ASCII or full of dots: taken as Fabio takes them.

use super::conformance::conforms;
use support::haproxies::{Version, haproxies};

#[haproxies(ends)]
fn a_host_alone_takes_every_path_and_each_spelling_of_a_path_meets_its_route(version: Version) {
    conforms("paths", &version);
}
