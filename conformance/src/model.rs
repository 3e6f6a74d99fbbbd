//! Stub.
#[doc(hidden)]
pub fn check_model<H: crate::Harness>(_cases: u32) {}
