//! What every fuzz target links: the sanitizer's defaults. The cases themselves are in `cases/`, a
//! package of the main workspace, so that `cargo test` runs them too.
//!
//! # Safety
//! The one unsafe item is a symbol that the sanitizer's runtime looks for.

/// What AddressSanitizer asks at start. Tables of functions are leaked on
/// purpose, one set for each host, so leaks are not looked for; what sessions
/// borrow is counted by the test kit's host.
// SAFETY: the runtime declares this symbol for programs to define; it returns
// a string that lives for ever.
#[unsafe(no_mangle)]
pub extern "C" fn __asan_default_options() -> *const std::ffi::c_char {
    c"detect_leaks=0".as_ptr()
}
