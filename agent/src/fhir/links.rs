//! Which resource of a file a reference means, by R4's rules for references within a `Bundle`.

use std::collections::HashMap;

/// Names of the resources of a file.
#[derive(Default)]
pub(super) struct Links {
    /// By full address; none where several have it, as versions of one resource do.
    by_url: HashMap<String, Option<usize>>,
    /// By `Kind/id`; none where several have it.
    by_name: HashMap<String, Option<usize>>,
}

/// What a reference means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'r> {
    /// The resource at this place in the file.
    Here(usize),
    /// What the resource itself contains, by its id.
    Contained(&'r str),
    /// A resource outside the file, or one of several in it of which nothing says which.
    Elsewhere,
    /// A resource that can only be in the file, and is not.
    Nowhere,
}

impl Links {
    /// Adds a resource.
    pub(super) fn add(&mut self, at: usize, url: Option<String>, name: Option<String>) {
        for (names, name) in [(&mut self.by_url, url), (&mut self.by_name, name)] {
            if let Some(name) = name {
                names
                    .entry(name)
                    .and_modify(|found| *found = None)
                    .or_insert(Some(at));
            }
        }
    }

    /// What a reference of the resource with this full address means.
    pub(super) fn find<'r>(&self, from: Option<&str>, reference: &'r str) -> Target<'r> {
        if let Some(contained) = reference.strip_prefix('#') {
            return Target::Contained(contained);
        }
        let reference = unversioned(reference);
        if let Some(&found) = self.by_url.get(reference) {
            return found.map_or(Target::Elsewhere, Target::Here);
        }
        if reference.starts_with("urn:") {
            return Target::Nowhere;
        }
        if is_absolute(reference) {
            return Target::Elsewhere;
        }
        // A relative one begins where that of the resource itself does.
        let base = from.filter(|from| is_absolute(from)).and_then(base_of);
        if let Some(base) = base
            && let Some(&found) = self.by_url.get(&format!("{base}/{reference}"))
        {
            return found.map_or(Target::Elsewhere, Target::Here);
        }
        match self.by_name.get(reference) {
            Some(&Some(at)) => Target::Here(at),
            _ => Target::Elsewhere,
        }
    }

    /// Whether only one resource has this `Kind/id`.
    pub(super) fn is_unique(&self, name: &str) -> bool {
        matches!(self.by_name.get(name), Some(Some(_)))
    }
}

/// A reference without the version it names.
pub(super) fn unversioned(reference: &str) -> &str {
    reference
        .split_once("/_history/")
        .map_or(reference, |(reference, _)| reference)
}

fn is_absolute(reference: &str) -> bool {
    reference.starts_with("http://") || reference.starts_with("https://")
}

/// What comes before `/Kind/id`.
fn base_of(url: &str) -> Option<&str> {
    let (rest, _) = unversioned(url).rsplit_once('/')?;
    rest.rsplit_once('/').map(|(base, _)| base)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: &str = "https://a.example/fhir/Patient/1";
    const NOTE: &str = "https://a.example/fhir/DocumentReference/2";

    fn links() -> Links {
        let mut links = Links::default();
        for (at, url, name) in [
            (0, Some(PATIENT), "Patient/1"),
            (1, Some("https://b.example/Patient/1"), "Patient/1"),
            (2, Some("urn:uuid:3"), "Patient/3"),
            (3, None, "Patient/4"),
        ] {
            links.add(at, url.map(str::to_owned), Some(name.to_owned()));
        }
        links
    }

    #[test]
    fn addresses_mean_what_has_them() {
        let links = links();
        assert_eq!(links.find(None, PATIENT), Target::Here(0));
        assert_eq!(
            links.find(None, &format!("{PATIENT}/_history/7")),
            Target::Here(0)
        );
        assert_eq!(links.find(None, "urn:uuid:3"), Target::Here(2));
        assert_eq!(links.find(None, "urn:uuid:9"), Target::Nowhere);
        assert_eq!(
            links.find(None, "https://c.example/Patient/1"),
            Target::Elsewhere
        );
        assert_eq!(links.find(None, "#p"), Target::Contained("p"));
    }

    #[test]
    fn relative_references_begin_where_the_resource_does() {
        let links = links();
        assert_eq!(links.find(Some(NOTE), "Patient/1"), Target::Here(0));
        let other = Some("https://b.example/DocumentReference/2");
        assert_eq!(links.find(other, "Patient/1"), Target::Here(1));
        // Two of that name, and nothing says which.
        assert_eq!(links.find(None, "Patient/1"), Target::Elsewhere);
        assert_eq!(links.find(Some("urn:uuid:8"), "Patient/3"), Target::Here(2));
        assert_eq!(links.find(Some("https://x"), "Patient/4"), Target::Here(3));
        assert_eq!(links.find(None, "Patient/5"), Target::Elsewhere);
        assert!(links.is_unique("Patient/4") && !links.is_unique("Patient/1"));
    }

    #[test]
    fn of_two_versions_of_a_resource_none_is_guessed() {
        let mut links = links();
        links.add(9, Some(PATIENT.to_owned()), None);
        assert_eq!(links.find(None, PATIENT), Target::Elsewhere);
        assert_eq!(links.find(Some(NOTE), "Patient/1"), Target::Elsewhere);
    }
}
