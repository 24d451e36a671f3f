//! Made-up services.

use callboard::{Address, Instance, ServiceName};

/// The name under which the benches dial.
pub const SERVICE: &str = "bench/echo";

/// [`SERVICE`], as a service.
pub fn service() -> ServiceName {
    SERVICE.parse().expect("a well-formed name")
}

/// So many instances, each with its own address, and with small weights that differ.
pub fn instances(count: usize) -> Vec<Instance> {
    let instance = |index: usize| {
        let address = Address::tcp(format!("10.{}.{}.{}", index >> 16, (index >> 8) & 255, index & 255), 50051);
        let instance = Instance::at(address.expect("an address in 10.0.0.0/8")).expect("an address is an id");
        instance.with_weight(1 + (index % 7) as u32)
    };
    (0..count).map(instance).collect()
}
