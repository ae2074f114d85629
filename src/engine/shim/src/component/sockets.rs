//! wasi:sockets without a single `socket` call: what a guest asks for goes to the C side
//! (`wh_component_net`), which knows the pod's addresses and its policy and hands over descriptors that are
//! connected or listen already. From then on reading, writing and accepting happen here, without blocking,
//! and the C side's loop says when a descriptor is ready.
mod net;
mod p2;
mod stream;
mod tcp;
mod udp;

use std::net::IpAddr;
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};

pub use net::{Net, WhComponentNet};

/// What the store's data must offer.
pub trait SocketsView: Send + 'static {
    fn sockets(&mut self) -> Sockets<'_>;
}

pub struct Sockets<'a> {
    pub table: &'a mut ResourceTable,
    pub net: &'a Arc<Net>,
}

struct HasSockets;

impl HasData for HasSockets {
    type Data<'a> = Sockets<'a>;
}

/// Adds wasi:sockets. Where the linker has wasmtime-wasi's own already, it must allow shadowing.
pub fn add_to_linker<T: SocketsView>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    p2::add_to_linker(linker)
}

/// A name that is an address, or nothing.
fn literal(name: &str) -> Option<IpAddr> {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    bare.parse().ok()
}

/// Whether a resolver may be asked for it: ASCII, as DNS has it.
fn valid_name(name: &str) -> bool {
    const NAME_MAX: usize = 253;
    let bytes = name.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= NAME_MAX
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// The conversions that the generated types of each version need.
macro_rules! addresses {
    ($m:path) => {
        use $m as wit;

        impl From<wit::IpSocketAddress> for SocketAddr {
            fn from(address: wit::IpSocketAddress) -> SocketAddr {
                match address {
                    wit::IpSocketAddress::Ipv4(v4) => {
                        let (a, b, c, d) = v4.address;
                        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), v4.port)
                    }
                    wit::IpSocketAddress::Ipv6(v6) => {
                        let (a, b, c, d, e, f, g, h) = v6.address;
                        let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
                        std::net::SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
                    }
                }
            }
        }

        impl From<IpAddr> for wit::IpAddress {
            fn from(ip: IpAddr) -> wit::IpAddress {
                match ip {
                    IpAddr::V4(v4) => wit::IpAddress::Ipv4(v4.octets().into()),
                    IpAddr::V6(v6) => wit::IpAddress::Ipv6(v6.segments().into()),
                }
            }
        }

        impl From<SocketAddr> for wit::IpSocketAddress {
            fn from(address: SocketAddr) -> wit::IpSocketAddress {
                match address {
                    SocketAddr::V4(v4) => wit::IpSocketAddress::Ipv4(wit::Ipv4SocketAddress {
                        port: v4.port(),
                        address: v4.ip().octets().into(),
                    }),
                    SocketAddr::V6(v6) => wit::IpSocketAddress::Ipv6(wit::Ipv6SocketAddress {
                        port: v6.port(),
                        flow_info: v6.flowinfo(),
                        address: v6.ip().segments().into(),
                        scope_id: v6.scope_id(),
                    }),
                }
            }
        }

        impl From<wit::IpAddressFamily> for crate::component::sockets::tcp::Family {
            fn from(family: wit::IpAddressFamily) -> Self {
                match family {
                    wit::IpAddressFamily::Ipv4 => Self::V4,
                    wit::IpAddressFamily::Ipv6 => Self::V6,
                }
            }
        }

        impl From<crate::component::sockets::tcp::Family> for wit::IpAddressFamily {
            fn from(family: crate::component::sockets::tcp::Family) -> Self {
                match family {
                    crate::component::sockets::tcp::Family::V4 => Self::Ipv4,
                    crate::component::sockets::tcp::Family::V6 => Self::Ipv6,
                }
            }
        }
    };
}
use addresses;
