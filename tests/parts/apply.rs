//! How a set becomes what a real HAProxy runs.
