//! The paths in ZooKeeper: `<chroot><root>/<service>/<id>--<incarnation>` for instances, `@config` beside them.

mod size;

use callboard_core::{CONFIG_NAME, Error, Incarnation, Instance, Result, ServiceName};

pub(crate) use self::size::check_size;

use crate::error::invalid;

/// Between an instance's id and its incarnation in the name of a node.
const DASHES: &str = "--";

/// The node of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The node of the service.
    pub(crate) directory: String,
    /// The node of the instance.
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) incarnation: Incarnation,
}

impl Place {
    pub(crate) fn new(directory: String, instance: &Instance) -> Self {
        let (id, incarnation) = (instance.id().to_owned(), instance.incarnation());
        Self { path: format!("{directory}/{id}{DASHES}{incarnation}"), directory, id, incarnation }
    }

    /// The node of another incarnation of the instance.
    pub(crate) fn of(&self, incarnation: Incarnation) -> String {
        format!("{}/{}{DASHES}{incarnation}", self.directory, self.id)
    }

    /// The incarnation of another node of the service, if it is of the same instance, as far as it is believed.
    pub(crate) fn sibling(&self, name: &str) -> Option<Incarnation> {
        read(name).filter(|(id, _)| *id == self.id).map(|(_, incarnation)| incarnation.believed())
    }
}

/// The node of a service.
///
/// A segment of its name must not have the form of an instance's node. Services are nested as nodes are, so the service
/// `a` could not tell its own instance `b--7` from the service `a/b--7`.
pub(crate) fn directory(prefix: &str, service: &ServiceName) -> Result<String> {
    match service.segments().find(|segment| is_entry(segment)) {
        None => Ok(format!("{prefix}/{service}")),
        Some(segment) => {
            let why = format!(
                "segment {segment:?} ends as the nodes of instances do, with \"{DASHES}\" and digits: rename the service"
            );
            Err(invalid(why).for_service(service))
        }
    }
}

/// Whether a node of this name, below a service's, is a part of it. The others are services of longer names.
pub(crate) fn is_part(name: &str) -> bool {
    name == CONFIG_NAME || is_entry(name)
}

/// Whether a node of this name is an instance.
fn is_entry(name: &str) -> bool {
    read(name).is_some()
}

/// The id and the incarnation that the name of an instance's node has.
pub(crate) fn read(name: &str) -> Option<(&str, Incarnation)> {
    let (id, digits) = name.rsplit_once(DASHES)?;
    // `parse` alone would take a leading '+'.
    let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    Some((id, Incarnation::from_micros(number)))
}

/// Checks a path that everything is below, such as `/callboard`, and returns it as a prefix; `/` alone is an empty one.
pub(crate) fn prefix(what: &str, path: &str) -> Result<String> {
    let complaint = |why: &str| -> Error { invalid(format!("{what} {path:?}: {why}")) };
    match path.strip_prefix('/') {
        None => Err(complaint("it has to begin with '/'")),
        Some("") => Ok(String::new()),
        Some(segments) => match ServiceName::new(segments) {
            Ok(_) => Ok(path.to_owned()),
            Err(_) => Err(complaint(
                "expected segments of letters, digits, '.', '_' and '-', each after one '/' and no other",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str, incarnation: u64) -> Instance {
        let address = "127.0.0.1:1".parse().expect("an address");
        Instance::new(id, address).expect("an id").with_incarnation(Incarnation::from_micros(incarnation))
    }

    fn service(name: &str) -> ServiceName {
        name.parse().expect("a name")
    }

    #[test]
    fn a_node_is_named_by_id_and_incarnation_and_read_back() {
        let directory = directory("/x/callboard", &service("project/test")).expect("a good name");
        for id in ["a", "a--7", "--", "a--", "[::1]:80", "-"] {
            let place = Place::new(directory.clone(), &instance(id, 42));
            assert_eq!(place.path, format!("/x/callboard/project/test/{id}--42"));
            assert_eq!(place.sibling(&format!("{id}--42")), Some(Incarnation::from_micros(42)));
            assert_eq!(place.sibling(&format!("{id}--x")), None);
            assert_eq!(place.sibling(&format!("other{id}--42")), None);
        }
    }

    #[test]
    fn services_of_longer_names_are_no_instances() {
        assert!(!is_entry("a--+7") && !is_entry(CONFIG_NAME) && is_part(CONFIG_NAME));
        for name in ["test", "a-b", "a--", "--", "a--b", "a--7b", "a--99999999999999999999", "7"] {
            assert!(!is_entry(name), "{name}");
            directory("", &service(&format!("project/{name}"))).expect(name);
        }
    }

    #[test]
    fn a_service_that_looks_like_an_instance_is_refused() {
        for name in ["a--7", "project/b--0/c"] {
            let error = directory("", &service(name)).expect_err(name);
            assert!(error.to_string().contains("ends as the nodes of instances do"), "{error}");
            assert_eq!(error.service(), Some(&service(name)));
        }
    }

    #[test]
    fn a_root_is_a_path() {
        assert_eq!(prefix("root", "/").expect("the root of all"), "");
        assert_eq!(prefix("root", "/a/b").expect("a path"), "/a/b");
        for bad in ["", "a", "/a/", "//", "/a//b", "/a/..", "/a b"] {
            let error = prefix("root", bad).expect_err(bad).to_string();
            assert!(error.starts_with(&format!("zookeeper: root {bad:?}: ")), "{error}");
        }
    }
}
