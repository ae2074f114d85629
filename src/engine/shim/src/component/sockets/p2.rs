//! wasi:sockets 0.2.
use wasmtime::component::Linker;

use super::SocketsView;

pub fn add_to_linker<T: SocketsView>(_linker: &mut Linker<T>) -> wasmtime::Result<()> {
    Ok(())
}
