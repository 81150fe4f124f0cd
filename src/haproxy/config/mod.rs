//! HAProxy's configuration language, as far as Gatewright must understand it: words, sections,
//! addresses, servers and what refers to what. Pure values; it never opens a file and never expands a
//! variable. What only HAProxy can know (conditional blocks, environment variables) is marked, not
//! guessed.

mod addresses;
pub mod arguments;
mod lexer;
mod references;
mod sections;
mod servers;
mod variables;

pub(crate) use addresses::endpoint;
pub(crate) use addresses::split_port;
pub use addresses::{Bind, Endpoint, Level, StatsSocket, Transport, endpoints};
pub use lexer::{LexError, LexErrorKind, WORDS_MAX, Word, lex, quote};
pub use references::{BackendUse, FileKind, FileUse, MapUse, Target};
pub use sections::{Config, Directive, LineError, Section, is_section_keyword};
pub use servers::{Backend, Server};
pub use variables::{Form, VariableUse, variable_uses};
