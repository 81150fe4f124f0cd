//! Sources of the catalog, with servers of the tests' own and real ones.

mod consul;
