//! What the examples with HTTP traffic share: instances that are processes of their own, the screen, and steps under
//! traffic.

pub mod instance;
pub mod screen;
pub mod show;
