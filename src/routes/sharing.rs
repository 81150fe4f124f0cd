//! Services that claim one route, or a part of the route of another one: whose rules of access hold, and what is told.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use super::owners::are_named;
use super::{Access, Item, Owner, Route, Source, Target};

/// Lets the rules of access of the first service that has any, by name, hold for every target of a route. The targets
/// are sorted by service. A service keeps its own rules beside them: nobody weakens those by a name that comes first.
pub fn protect(targets: &mut [Target]) {
    let Some(first) = targets.iter().find(|one| !one.options.access.is_open()) else {
        return;
    };
    let (service, rules) = (first.service.clone(), first.options.access.clone());
    for target in targets {
        let own = &target.options.access;
        if target.service != service || own.is_open() {
            target.options.access = own.and(&rules);
        }
    }
}

/// The services of a route, each once.
fn services<T: Borrow<Target>>(targets: &[T]) -> BTreeSet<&str> {
    let names = targets.iter().map(|one| one.borrow().service.as_str());
    names.collect()
}

/// What is to tell of a route that several services claim, before their rules are brought together.
pub fn shared(source: &Source, targets: &[Target], owners: &[Owner]) -> Option<Item> {
    let all = services(targets);
    if all.len() < 2 || are_named(owners, source) {
        return None;
    }
    let (open, ruled): (Vec<&Target>, Vec<&Target>) =
        targets.iter().partition(|one| one.options.access.is_open());
    let open: BTreeSet<&str> = open.iter().map(|one| one.service.as_str()).collect();
    let rules = match ruled.first() {
        Some(first) if !open.is_empty() => format!(
            " The rules of access of {} hold for {} too, which has none.",
            first.service,
            words(open)
        ),
        Some(first) => format!(
            " The rules of access of {} hold for all of them.",
            first.service
        ),
        None => String::new(),
    };
    Some(Item {
        what: format!("Route {source}"),
        text: format!(
            "The services {} claim it, and share its requests.{rules} Say in [parameters.owners] who may claim it.",
            words(all)
        ),
    })
}

fn words(names: BTreeSet<&str>) -> String {
    names.into_iter().collect::<Vec<&str>>().join(", ")
}

/// What is to tell of routes without rules of access that take a part of a protected route of other services.
pub fn taken(routes: &[Route], owners: &[Owner]) -> Vec<Item> {
    let mut items = Vec::new();
    // Routes of one host stand together, a path before what it begins with; from the end, behind it.
    let mut around: Vec<&Route> = Vec::new();
    for route in routes.iter().rev() {
        around.retain(|outer| is_within(&route.source, &outer.source));
        let open = access(route).is_none_or(Access::is_open);
        let protected = around
            .iter()
            .rfind(|outer| access(outer).is_some_and(|rules| !rules.is_open()));
        if let Some(outer) = protected
            && open
            && !are_named(owners, &route.source)
        {
            let (own, others) = (services(&route.targets), services(&outer.targets));
            if own.is_disjoint(&others) {
                items.push(Item {
                    what: format!("Route {}", route.source),
                    text: format!(
                        "The service {} takes it out of the protected route {} of {}, and has no rules of access. Say in [parameters.owners] who may claim it.",
                        words(own),
                        outer.source,
                        words(others)
                    ),
                });
            }
        }
        around.push(route);
    }
    items
}

fn access(route: &Route) -> Option<&Access> {
    route.targets.first().map(|one| &one.options.access)
}

fn is_within(inner: &Source, outer: &Source) -> bool {
    match (inner, outer) {
        (
            Source::Http { host, path },
            Source::Http {
                host: own,
                path: begin,
            },
        ) => host == own && path.starts_with(begin.as_str()),
        _ => false,
    }
}
