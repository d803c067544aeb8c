//! When is a page ready? Events in, [`Progress`] out; no clock, no browser.
//!
//! A page is ready when its current top document has fired `load`. "Current" moves: a script or a meta refresh may
//! replace the document, and the `load` of an earlier one, or of a sub-frame, does not count. Must not: decide who is
//! to blame; it only reports what the browser said (`capture::verdict` judges).

use crate::browser::{Event, Navigated};

/// Where a page stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not there yet.
    Pending,
    /// The current document fired `load`.
    Ready,
    /// The current document could not be had; the browser shows a page of its own instead.
    Failed,
    /// The page's process is gone.
    Crashed,
}

/// What is known of one navigation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    frame: String,
    loader: Option<String>,
    /// Documents of the top frame that fired `load`, among them perhaps one whose navigation is not answered yet.
    loaded: Option<String>,
    crashed: bool,
    failed: bool,
    url: Option<String>,
}

impl Wait {
    /// Watches the page with this top frame.
    pub fn new(frame: &str) -> Self {
        Self {
            frame: frame.to_owned(),
            loader: None,
            loaded: None,
            crashed: false,
            failed: false,
            url: None,
        }
    }

    /// Takes in the browser's answer to the navigation.
    pub fn navigated(&mut self, answer: &Navigated) {
        // A script may have moved the page on before the answer was read; then the newer document stands.
        if self.loader.is_none() {
            self.loader.clone_from(&answer.loader);
        }
    }

    /// Takes in one event.
    pub fn on(&mut self, event: &Event) {
        match event {
            Event::Lifecycle { frame, loader, name } if *frame == self.frame && name == "load" => {
                self.loaded = Some(loader.clone());
            }
            Event::FrameNavigated {
                loader,
                top: true,
                url,
                failed,
                ..
            } => {
                self.loader = Some(loader.clone());
                self.url = Some(url.clone());
                self.failed = *failed;
            }
            Event::Crashed => self.crashed = true,
            _ => {}
        }
    }

    /// Where the page stands now.
    pub fn progress(&self) -> Progress {
        if self.crashed {
            Progress::Crashed
        } else if self.failed {
            Progress::Failed
        } else if self.loader.is_some() && self.loader == self.loaded {
            Progress::Ready
        } else {
            Progress::Pending
        }
    }

    /// Where the top document came from, the end of its redirects; `None` until one is there.
    pub fn document_url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The loader of the top document that is there or on its way.
    pub fn loader(&self) -> Option<&str> {
        self.loader.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(frame: &str, loader: &str) -> Event {
        Event::Lifecycle {
            frame: frame.into(),
            loader: loader.into(),
            name: "load".into(),
        }
    }
    fn commit(loader: &str) -> Event {
        Event::FrameNavigated {
            frame: "top".into(),
            loader: loader.into(),
            top: true,
            url: format!("http://{loader}.example/"),
            failed: false,
        }
    }
    fn answer(loader: &str) -> Navigated {
        Navigated {
            loader: Some(loader.into()),
            error: None,
            download: false,
        }
    }
    fn after(events: &[Event]) -> Progress {
        let mut wait = Wait::new("top");
        wait.navigated(&answer("L1"));
        for event in events {
            wait.on(event);
        }
        wait.progress()
    }

    #[test]
    fn the_load_of_the_navigated_document_is_the_end() {
        assert_eq!(after(&[]), Progress::Pending);
        assert_eq!(after(&[commit("L1"), load("top", "L1")]), Progress::Ready);
    }

    #[test]
    fn the_empty_pages_load_and_a_sub_frames_load_do_not_count() {
        assert_eq!(after(&[load("top", "L0")]), Progress::Pending);
        assert_eq!(after(&[load("child", "L1")]), Progress::Pending);
    }

    #[test]
    fn a_script_that_moves_the_page_on_is_waited_for() {
        let moved = [commit("L1"), load("top", "L1"), commit("L2")];
        assert_eq!(after(&moved), Progress::Pending);
        let there = [commit("L1"), load("top", "L1"), commit("L2"), load("top", "L2")];
        assert_eq!(after(&there), Progress::Ready);
    }

    #[test]
    fn events_that_overtake_the_answer_are_not_lost() {
        let mut wait = Wait::new("top");
        wait.on(&commit("L1"));
        wait.on(&load("top", "L1"));
        wait.navigated(&answer("L1"));
        assert_eq!(wait.progress(), Progress::Ready);
    }

    #[test]
    fn a_crash_is_final_even_after_load() {
        assert_eq!(
            after(&[commit("L1"), load("top", "L1"), Event::Crashed]),
            Progress::Crashed
        );
    }

    #[test]
    fn a_document_that_could_not_be_had_is_a_failure_at_its_own_address_until_the_page_moves_on() {
        let mut wait = Wait::new("top");
        wait.navigated(&answer("L1"));
        assert_eq!(wait.document_url(), None);
        wait.on(&commit("L1"));
        wait.on(&Event::FrameNavigated {
            frame: "top".into(),
            loader: "L2".into(),
            top: true,
            url: "http://gone.example/".into(),
            failed: true,
        });
        wait.on(&load("top", "L2"));
        assert_eq!(
            (wait.progress(), wait.document_url()),
            (Progress::Failed, Some("http://gone.example/"))
        );
        wait.on(&commit("L3"));
        wait.on(&load("top", "L3"));
        assert_eq!(
            (wait.progress(), wait.document_url(), wait.loader()),
            (Progress::Ready, Some("http://L3.example/"), Some("L3"))
        );
    }
}
