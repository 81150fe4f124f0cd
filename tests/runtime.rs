//! Servers and map entries change without a reload: the worker stays the same process, no request
//! fails, and at the end the catalog, the file, the servers of the worker and its revision agree.

mod acls;
mod churn;
mod draining;
pub mod gateway;
mod hands;
mod keys;
mod maps;
mod refused;
mod slots;

use std::time::Duration;

/// For everything that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
