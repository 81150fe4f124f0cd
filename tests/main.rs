//! All tests against the real programs, as one program: one file a promise.

mod real_parts;
mod support;
