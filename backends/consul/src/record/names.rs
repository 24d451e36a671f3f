//! How names of services and instances become names that Consul can hold, and back.

use callboard_core::ServiceName;

/// The name under which Consul lists a service: its own, with `--` for each `/`, because a name in Consul's DNS has
/// letters, digits and `-`. So `project/test` and `project--test` are listed together. The exact name in
/// each entry tells them apart.
pub(crate) fn listed_name(service: &ServiceName) -> String {
    service.as_str().replace('/', "--")
}

/// The id of an instance in Consul, which is unique for a whole agent and not for a service only: `project/test:a`.
///
/// Consul's catalog takes `A` and `a` for one id. A capital is written `~` and the small letter, so that they stay two;
/// neither names nor ids have a `~` of their own.
pub(crate) fn entry_id(service: &ServiceName, instance: &str) -> String {
    small(&format!("{service}:{instance}"))
}

/// The instance's id within its service, of an id that [`entry_id`] made for that service.
pub(crate) fn instance_id(service: &ServiceName, entry: &str) -> Option<String> {
    // A service's name has no ':', so what follows the first one is the instance's.
    let id = entry.strip_prefix(&small(service.as_str()))?.strip_prefix(':')?;
    let mut plain = String::with_capacity(id.len());
    let mut letters = id.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '~' => plain.push(letters.next().filter(char::is_ascii_lowercase)?.to_ascii_uppercase()),
            letter if letter.is_ascii_uppercase() => return None,
            letter => plain.push(letter),
        }
    }
    Some(plain)
}

fn small(text: &str) -> String {
    let mut small = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_uppercase() {
            small.push('~');
        }
        small.push(letter.to_ascii_lowercase());
    }
    small
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().unwrap()
    }

    #[test]
    fn names_are_what_a_person_would_look_for() {
        for (name, listed, id) in [
            ("web", "web", "web:a"),
            ("project-test", "project-test", "project-test:a"),
            ("project/test", "project--test", "project/test:a"),
            ("Project.v2/TEST", "Project.v2--TEST", "~project.v2/~t~e~s~t:a"),
        ] {
            assert_eq!((listed_name(&service(name)).as_str(), entry_id(&service(name), "a").as_str()), (listed, id));
        }
    }

    #[test]
    fn the_id_of_another_service_or_tool_is_no_id_of_ours() {
        for entry in [
            "a",
            "project/test",
            "project/test2:a",
            "project-test:a",
            "Project/test:a",
            "project/test:A",
            "project/test:a~",
        ] {
            assert_eq!(instance_id(&service("project/test"), entry), None, "{entry}");
        }
    }

    const NAME: &str = "[A-Za-z0-9_-]{1,6}(/[A-Za-z0-9._-]{1,4}x){0,2}";
    const ID: &str = "[A-Za-z0-9._:\\[\\]-]{3,9}";

    proptest! {
        #[test]
        fn every_id_comes_back(name in NAME, id in ID) {
            prop_assert_eq!(instance_id(&service(&name), &entry_id(&service(&name), &id)), Some(id));
        }

        #[test]
        fn no_two_instances_share_an_id_even_where_case_does_not_count(a in (NAME, ID), b in (NAME, ID)) {
            let id = |(name, id): &(String, String)| entry_id(&service(name), id).to_lowercase();
            prop_assert_eq!(a == b, id(&a) == id(&b));
            let other_case = (a.0.to_uppercase(), a.1.to_lowercase());
            prop_assert_eq!(a == other_case, id(&a) == id(&other_case));
        }

        #[test]
        fn any_text_is_read_or_refused(name in NAME, entry in "\\PC{0,20}") {
            let _ = instance_id(&service(&name), &entry);
        }
    }
}
