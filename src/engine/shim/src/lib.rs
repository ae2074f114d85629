//! Wasmtime's C API, re-exported, and the few calls that it lacks: engines whose creation can fail,
//! modules loaded from a descriptor, compilation in memory, a limiter that counts. The C face is `shim.h`.
//!
//! Nothing but integers, pointers and `repr(C)` structs crosses the border, and no panic does.
use std::ffi::{c_char, c_int};
use std::mem::{align_of, size_of};
use std::os::fd::{FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use wasmtime::{Config, Engine, Module, ModuleVersionStrategy, ResourceLimiter, Store, WasmBacktraceDetails};
pub use wasmtime_c_api::*;

#[cfg(feature = "components")]
mod component;

// The C API's handles are single-field `repr(C)` structs whose field is private to their crate; these
// assertions and the exact version pin are what makes the casts below sound.
const _: () = assert!(size_of::<wasm_config_t>() == size_of::<Config>());
const _: () = assert!(align_of::<wasm_config_t>() == align_of::<Config>());
const _: () = assert!(size_of::<wasm_engine_t>() == size_of::<Engine>());
const _: () = assert!(align_of::<wasm_engine_t>() == align_of::<Engine>());
const _: () = assert!(size_of::<wasmtime_module_t>() == size_of::<Module>());
const _: () = assert!(align_of::<wasmtime_module_t>() == align_of::<Module>());
const _: () = assert!(size_of::<wasmtime_store_t>() == size_of::<Store<WasmtimeStoreData>>());
const _: () = assert!(align_of::<wasmtime_store_t>() == align_of::<Store<WasmtimeStoreData>>());

/// Where a failing call leaves its sentence; the C side owns the bytes.
#[repr(C)]
pub struct WhShimMessage {
    text: *mut c_char,
    bytes: usize,
}

/// Writes `text`, cut at a character border and always terminated.
///
/// # Safety
/// `message` is null or points to a valid `WhShimMessage`.
unsafe fn tell(message: *const WhShimMessage, text: &str) {
    // SAFETY: promised by the caller.
    let Some(message) = (unsafe { message.as_ref() }) else { return };
    if message.text.is_null() || message.bytes == 0 {
        return;
    }
    let mut n = text.len().min(message.bytes - 1);
    while !text.is_char_boundary(n) {
        n -= 1;
    }
    // SAFETY: `text` of the message has `bytes` writable bytes, and n < bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), message.text, n);
        *message.text.add(n) = 0;
    }
}

/// Runs `body`; an error or a panic becomes -1 and a sentence.
///
/// # Safety
/// `message` is null or points to a valid `WhShimMessage`.
unsafe fn guarded(message: *const WhShimMessage, body: impl FnOnce() -> wasmtime::Result<()>) -> c_int {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            // SAFETY: promised by the caller.
            unsafe { tell(message, &format!("{error:#}")) };
            -1
        }
        Err(_) => {
            // SAFETY: promised by the caller.
            unsafe { tell(message, "the engine panicked") };
            -1
        }
    }
}

/// Makes an engine. `config` is consumed, also on failure. `version` becomes the tag of every file that
/// the engine writes, and the only tag that it loads. `lines` reads file names and line numbers for
/// backtraces from a guest's DWARF sections; the C API leaves that to an environment variable.
///
/// # Safety
/// `config` comes from `wasm_config_new`; `version` points to `version_bytes` bytes of UTF-8; `ret` is writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_engine_new(
    config: *mut wasm_config_t,
    version: *const u8,
    version_bytes: usize,
    lines: bool,
    ret: *mut *mut wasm_engine_t,
    message: *const WhShimMessage,
) -> c_int {
    // SAFETY: the pointers are what the contract says; the layouts are asserted above.
    unsafe {
        let config = Box::from_raw(config.cast::<Config>());
        guarded(message, move || {
            let mut config = *config;
            let version = std::str::from_utf8(std::slice::from_raw_parts(version, version_bytes))?;
            config.module_version(ModuleVersionStrategy::Custom(version.to_owned()))?;
            config.wasm_backtrace_details(if lines {
                WasmBacktraceDetails::Enable
            } else {
                WasmBacktraceDetails::Disable
            });
            let engine = Engine::new(&config)?;
            *ret = Box::into_raw(Box::new(engine)).cast::<wasm_engine_t>();
            Ok(())
        })
    }
}

/// Maps a compiled module. `fd` is consumed, also on failure. The file is trusted input: whoever wrote it
/// can run native code here, so the caller has verified it.
///
/// # Safety
/// `engine` is a live engine, `fd` an open descriptor owned by the caller, `ret` writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_module_load_fd(
    engine: *const wasm_engine_t,
    fd: c_int,
    ret: *mut *mut wasmtime_module_t,
    message: *const WhShimMessage,
) -> c_int {
    // SAFETY: as above; the file's content was authenticated by the caller.
    unsafe {
        let file = std::fs::File::from(OwnedFd::from_raw_fd(fd));
        guarded(message, move || {
            let engine = &*engine.cast::<Engine>();
            let module = Module::deserialize_open_file(engine, file)?;
            *ret = Box::into_raw(Box::new(module)).cast::<wasmtime_module_t>();
            Ok(())
        })
    }
}

/// What a store may take and has taken; lives on the C side. The C API's own limiter counts each memory by
/// itself and does not tell that it refused.
#[repr(C)]
pub struct WhShimLimits {
    memory_bytes_max: u64,
    table_elems_max: u64,
    memory_bytes: u64,
    table_elems: u64,
    refused: u64,
}

impl WhShimLimits {
    /// Charges `desired - current` to `used`. What was charged stays so when the system refuses the growth
    /// afterwards: then there is nothing left to grow into.
    fn charge(used: &mut u64, most: u64, refused: &mut u64, current: usize, desired: usize) -> bool {
        let wanted = used.saturating_add((desired as u64).saturating_sub(current as u64));
        if wanted > most {
            *refused += 1;
            return false;
        }
        *used = wanted;
        true
    }
}

impl ResourceLimiter for WhShimLimits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|m| desired > m) {
            return Ok(false); // the module's own limit
        }
        let most = self.memory_bytes_max;
        Ok(Self::charge(&mut self.memory_bytes, most, &mut self.refused, current, desired))
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused += 1;
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|m| desired > m) {
            return Ok(false);
        }
        let most = self.table_elems_max;
        Ok(Self::charge(&mut self.table_elems, most, &mut self.refused, current, desired))
    }
}

struct LimitsPointer(*mut WhShimLimits);
// SAFETY: a store and its limits belong to one thread at a time; the C side promises it.
unsafe impl Send for LimitsPointer {}
// SAFETY: as above.
unsafe impl Sync for LimitsPointer {}

impl LimitsPointer {
    fn get(&self) -> *mut WhShimLimits {
        self.0
    }
}

/// Puts a store under `limits`, which must outlive it.
///
/// # Safety
/// `store` is a live store, `limits` is writable and used by no other thread while the store is in use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_store_limit(store: *mut wasmtime_store_t, limits: *mut WhShimLimits) {
    let limits = LimitsPointer(limits);
    // SAFETY: the layouts are asserted above, and the rest is promised by the caller.
    unsafe {
        let store = &mut *store.cast::<Store<WasmtimeStoreData>>();
        store.limiter(move |_| &mut *limits.get());
    }
}

/// Sets up what the first call on a thread would otherwise map.
#[unsafe(no_mangle)]
pub extern "C" fn wh_shim_thread_init() {
    // A failure shows again, as an error, at the first call.
    let _ = catch_unwind(Engine::tls_eager_initialize);
}

/// Compiles a core module to bytes that `wh_shim_module_load_fd` maps from a file.
/// The result is freed by `wasm_byte_vec_delete`.
///
/// # Safety
/// `engine` is a live engine, `wasm` points to `n` bytes, `ret` is a writable, empty vector.
#[cfg(feature = "compiler")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_precompile(
    engine: *const wasm_engine_t,
    wasm: *const u8,
    n: usize,
    ret: *mut wasm_byte_vec_t,
    message: *const WhShimMessage,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        guarded(message, || {
            let engine = &*engine.cast::<Engine>();
            let bytes = engine.precompile_module(std::slice::from_raw_parts(wasm, n))?;
            (*ret).set_buffer(bytes);
            Ok(())
        })
    }
}

/// The same for a component, of which `wh_component_load` maps the result.
///
/// # Safety
/// As of `wh_shim_precompile`.
#[cfg(feature = "compiler")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wh_shim_precompile_component(
    engine: *const wasm_engine_t,
    wasm: *const u8,
    n: usize,
    ret: *mut wasm_byte_vec_t,
    message: *const WhShimMessage,
) -> c_int {
    // SAFETY: as above.
    unsafe {
        guarded(message, || {
            let engine = &*engine.cast::<Engine>();
            let bytes = engine.precompile_component(std::slice::from_raw_parts(wasm, n))?;
            (*ret).set_buffer(bytes);
            Ok(())
        })
    }
}
