//! The types of `engine/component.h`, field by field.
use std::ffi::{c_char, c_int, c_void};
use std::slice;

use super::sockets::WhComponentNet;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Str {
    pub p: *const u8,
    pub n: usize,
}

impl Str {
    pub fn of(bytes: &[u8]) -> Self {
        Str { p: bytes.as_ptr(), n: bytes.len() }
    }

    /// # Safety
    /// `p` points to `n` bytes that live as long as the result is used, or n is 0.
    pub unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.n == 0 || self.p.is_null() {
            return &[];
        }
        // SAFETY: promised by the caller.
        unsafe { slice::from_raw_parts(self.p, self.n) }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Field {
    pub name: Str,
    pub value: Str,
}

#[repr(C)]
pub struct Head {
    pub method: Str,
    pub scheme: Str,
    pub authority: Str,
    pub path_query: Str,
    pub fields: *const Field,
    pub n_fields: usize,
    pub body_bytes: i64,
}

#[repr(C)]
pub struct Dir {
    pub fd: c_int,
    pub guest_path: *const c_char,
    pub read_only: bool,
}

#[repr(C)]
pub struct GuestLimits {
    pub memory_bytes_max: u64,
    pub table_elems_max: u32,
    pub start_ticks: u32,
}

/// `wh_end`
pub const END_OK: c_int = 0;
pub const END_EXIT: c_int = 1;
pub const END_TRAP: c_int = 2;
pub const END_DEADLINE: c_int = 3;

/// `wh_trap`, those that this side chooses.
pub const TRAP_OUT_OF_MEMORY: c_int = 14;
pub const TRAP_EXCEPTION: c_int = 15;
pub const TRAP_HOST: c_int = 16;
pub const TRAP_OTHER: c_int = 17;

pub const MSG_BYTES: usize = 1024;

#[repr(C)]
#[derive(Clone)]
pub struct Outcome {
    pub end: c_int,
    pub trap: c_int,
    pub exit_code: c_int,
    pub memory_refused: bool,
    pub msg: [u8; MSG_BYTES],
}

impl Outcome {
    pub fn ok() -> Self {
        Outcome { end: END_OK, trap: 0, exit_code: 0, memory_refused: false, msg: [0; MSG_BYTES] }
    }

    /// Writes printable text only, as a guest's author chose the names in it, and cuts it at a character.
    pub fn say(&mut self, text: &str) {
        let mut at = 0;
        for c in text.chars() {
            let c = if c.is_control() && c != '\n' { '?' } else { c };
            if at + c.len_utf8() >= MSG_BYTES {
                break;
            }
            c.encode_utf8(&mut self.msg[at..]);
            at += c.len_utf8();
        }
        self.msg[at] = 0;
    }
}

#[repr(C)]
pub struct Callbacks {
    pub on_head: unsafe extern "C" fn(*mut c_void, u32, *const Field, usize),
    pub on_body: unsafe extern "C" fn(*mut c_void, *const u8, usize) -> bool,
    pub on_end: unsafe extern "C" fn(*mut c_void, *const Outcome, *const Field, usize),
    pub on_taken: Option<unsafe extern "C" fn(*mut c_void, usize)>,
    pub wake: unsafe extern "C" fn(*mut c_void),
}

#[repr(C)]
pub struct EgressOps {
    pub user: *mut c_void,
    pub begin: unsafe extern "C" fn(*mut c_void, u64, *const Head, i64, i64, i64) -> c_int,
    pub body: unsafe extern "C" fn(*mut c_void, u64, *const u8, usize) -> bool,
    pub body_end: unsafe extern "C" fn(*mut c_void, u64, *const Field, usize),
    pub consumed: Option<unsafe extern "C" fn(*mut c_void, u64, usize)>,
    pub cancel: unsafe extern "C" fn(*mut c_void, u64),
}

pub type WriteFn = unsafe extern "C" fn(*mut c_void, c_int, *const u8, usize) -> c_int;

#[repr(C)]
pub struct Config {
    pub args: *const *const c_char,
    pub env: *const *const c_char,
    pub dirs: *const Dir,
    pub n_dirs: usize,
    pub stdin_fd: c_int,
    pub write: Option<WriteFn>,
    pub write_user: *mut c_void,
    pub net: *const WhComponentNet,
    pub egress: *const EgressOps,
    pub callbacks: *const Callbacks,
    pub limits: GuestLimits,
    pub deadline_ticks: u32,
    pub calls_at_once: u32,
}
