//! How the C library keeps memory for this program, so that what it holds is bounded by what is known, not by how
//! often that changed.
//!
//! Unset, glibc reserves 64 MB of addresses for each thread, and keeps what was freed between two things that live.

#[cfg(target_env = "gnu")]
mod library {
    use std::ffi::c_int;

    // malloc.h of glibc 2.10 and later.
    pub const MMAP_THRESHOLD: c_int = -3;
    pub const ARENA_MAX: c_int = -8;

    // Both take plain numbers and may be called at any time; `mallopt` before there are threads.
    #[allow(unsafe_code)]
    unsafe extern "C" {
        pub safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
        pub safe fn malloc_trim(pad: usize) -> c_int;
    }
}

/// From this size on, what is freed goes back to the system at once.
#[cfg(target_env = "gnu")]
const LARGE: std::ffi::c_int = 1 << 20;

/// All threads share one store of free memory. To be called before there are threads; elsewhere than on glibc it does
/// nothing.
pub fn share() {
    #[cfg(target_env = "gnu")]
    {
        // A refusal leaves it as it is.
        library::mallopt(library::ARENA_MAX, 1);
        library::mallopt(library::MMAP_THRESHOLD, LARGE);
    }
}

/// Gives back to the system what is free. Takes milliseconds where much is.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    library::malloc_trim(0);
}
