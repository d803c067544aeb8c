//! The cells of the benchmark: which load, which page, which arms.
//!
//! In: the site. Out: orders. Pure. The windows are short, for rounds are many and arms are interleaved: what disturbs
//! the machine then disturbs all arms alike.

use crate::arm::Kind;
use crate::protocol::{Background, Format, Job, Load, Manner, Order};
use crate::site::{ENDLESS, MIX, Page, Site};

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// One at a time, the service idle before each: spares are at hand.
    Paced(Page),
    /// One at a time, one right after the other.
    Single(Page),
    /// As many at a time as there are cores.
    Cores(Page),
    /// Twice as many.
    TwiceCores(Page),
    /// Eight at a time.
    Saturated(Page),
    /// The article, one at a time, in another format than the fast PNG of the other cells.
    Encoded(Format),
    /// Arrivals at so many hundredths of what `raw` just did saturated.
    Open(Page, u8),
    /// One trivial page at a time beside full-page pictures of `long`.
    Beside,
    /// One trivial page at a time beside a script that never ends.
    Hostile,
    /// One trivial page at a time beside hostile pages of every kind in turn.
    Mix,
    /// A browser's start.
    Launch,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What the goals need, in minutes.
    Goals,
    /// Every cell for every arm.
    Whole,
}

/// Captures at a time in a saturated cell.
pub const SATURATED: u32 = 8;

impl Cell {
    /// In the order of a round. `Saturated` stands before `Open`, which needs its rate.
    pub const ALL: [Self; 20] = [
        Self::Paced(Page::Trivial),
        Self::Paced(Page::Article),
        Self::Paced(Page::Demo),
        Self::Single(Page::Trivial),
        Self::Single(Page::Article),
        Self::Single(Page::Long),
        Self::Cores(Page::Article),
        Self::TwiceCores(Page::Article),
        Self::Saturated(Page::Trivial),
        Self::Saturated(Page::Article),
        Self::Open(Page::Article, 30),
        Self::Open(Page::Article, 60),
        Self::Open(Page::Article, 90),
        Self::Encoded(Format::PngSmall),
        Self::Encoded(Format::Jpeg),
        Self::Encoded(Format::Webp),
        Self::Beside,
        Self::Hostile,
        Self::Mix,
        Self::Launch,
    ];

    /// The word for reports and `--only`.
    pub fn name(self) -> String {
        match self {
            Self::Paced(page) => format!("paced/{}", page.name()),
            Self::Single(page) => format!("single/{}", page.name()),
            Self::Cores(page) => format!("cores/{}", page.name()),
            Self::TwiceCores(page) => format!("twice-cores/{}", page.name()),
            Self::Saturated(page) => format!("saturated/{}", page.name()),
            Self::Open(page, share) => format!("open/{}-{share}", page.name()),
            Self::Encoded(format) => format!("encoded/{}", format.name()),
            Self::Beside => "beside/trivial".to_owned(),
            Self::Hostile => "hostile/trivial".to_owned(),
            Self::Mix => "mix/trivial".to_owned(),
            Self::Launch => "launch".to_owned(),
        }
    }

    /// Whether an arm has a part in it. `primary` is whether its isolation is the service's default.
    pub fn is_for(self, kind: Kind, primary: bool, extent: Extent) -> bool {
        let service = matches!(kind, Kind::Engine | Kind::Http);
        match (self, extent) {
            (Self::Launch, _) => kind == Kind::Raw,
            // A service of another make: what users ask of it, in every run that names it.
            (_, _) if kind == Kind::Peer => !matches!(self, Self::Hostile | Self::Mix),
            // Nothing bounds such pages in the bare browser.
            (Self::Hostile | Self::Mix, Extent::Whole) => service,
            (Self::Single(Page::Trivial | Page::Article) | Self::Saturated(Page::Article), Extent::Whole) => true,
            (_, Extent::Whole) | (Self::Single(Page::Trivial), _) => kind != Kind::RawWarm,
            (Self::Paced(Page::Demo), _) => matches!(kind, Kind::Raw | Kind::Http),
            (Self::Paced(_), _) => matches!(kind, Kind::Raw | Kind::Engine),
            (Self::Single(Page::Article), _) => kind != Kind::Http || primary,
            (Self::Saturated(_), _) => kind == Kind::Raw || service && primary,
            (Self::Beside | Self::Hostile | Self::Mix, _) => kind == Kind::Http && primary,
            (
                Self::Single(_) | Self::Cores(_) | Self::TwiceCores(_) | Self::Open(..) | Self::Encoded(_),
                Extent::Goals,
            ) => false,
        }
    }

    /// What the arm is to do. `rate` is what `raw` did saturated in this round; `seed` is the round's.
    pub fn order(self, site: Site, rate: f64, seed: u64) -> Order {
        let closed = |concurrency, window_ms, warmup_ms| Load::Closed {
            concurrency,
            window_ms,
            warmup_ms,
        };
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let cores = u32::try_from(cores).unwrap_or(2);
        let (page, load) = match self {
            Self::Paced(page) => (
                page,
                Load::Paced {
                    count: 10,
                    pause_ms: 400,
                },
            ),
            Self::Single(page) => (page, closed(1, 1_600, 0)),
            Self::Cores(page) => (page, closed(cores, 2_000, 500)),
            Self::TwiceCores(page) => (page, closed(2 * cores, 2_000, 500)),
            Self::Saturated(page) => (page, closed(SATURATED, 2_200, 800)),
            Self::Encoded(_) => (Page::Article, closed(1, 1_600, 0)),
            Self::Open(page, share) => {
                let rate = (rate * f64::from(share) / 100.0).max(0.5);
                (
                    page,
                    Load::Open {
                        rate,
                        window_ms: 2_500,
                        seed,
                    },
                )
            }
            Self::Beside | Self::Hostile | Self::Mix => (Page::Trivial, closed(1, 2_200, 0)),
            Self::Launch => (Page::Trivial, Load::Launch { count: 3 }),
        };
        let mut job = job(site, page);
        if let Self::Encoded(format) = self {
            job.format = format;
        }
        Order {
            job,
            load,
            background: self.background(site),
        }
    }

    fn background(self, site: Site) -> Option<Background> {
        let hostile = |path: &str| Job {
            url: site.at(path),
            of_another: true,
            ..job(site, Page::Trivial)
        };
        let (jobs, manner) = match self {
            Self::Beside => (vec![job(site, Page::Long)], Manner::Good),
            Self::Hostile => (vec![hostile(ENDLESS)], Manner::Endless),
            Self::Mix => (MIX.iter().map(|path| hostile(path)).collect(), Manner::Mixed),
            _ => return None,
        };
        Some(Background { jobs, manner })
    }
}

/// A page's picture as users take it. The demo's window is the demo's.
pub fn job(site: Site, page: Page) -> Job {
    Job {
        page,
        url: site.url(page),
        width: 1280,
        height: if page == Page::Demo { 800 } else { 720 },
        full_page: page == Page::Long,
        format: Format::Png,
        of_another: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_is_in_every_cell_that_is_compared_with_it_and_the_rate_is_known_before_it_is_needed() {
        let whole = |cell: &Cell| cell.is_for(Kind::Raw, false, Extent::Whole);
        let hostile = |cell: &Cell| matches!(cell, Cell::Hostile | Cell::Mix);
        assert!(Cell::ALL.iter().all(|cell| whole(cell) || hostile(cell)));
        for cell in Cell::ALL {
            let services = [Kind::Engine, Kind::Http].map(|kind| cell.is_for(kind, true, Extent::Goals));
            let alone = hostile(&cell) || cell == Cell::Beside;
            assert!(
                services == [false; 2] || alone || cell.is_for(Kind::Raw, false, Extent::Goals),
                "{cell:?}"
            );
        }
        let at = |wanted: Cell| Cell::ALL.iter().position(|cell| *cell == wanted).unwrap();
        assert!(at(Cell::Saturated(Page::Article)) < at(Cell::Open(Page::Article, 30)));
    }

    #[test]
    fn what_the_goals_need_is_a_part_of_the_whole() {
        for cell in Cell::ALL {
            for kind in [Kind::Raw, Kind::RawWarm, Kind::Engine, Kind::Http, Kind::Peer] {
                for primary in [false, true] {
                    let part = cell.is_for(kind, primary, Extent::Goals);
                    assert!(!part || cell.is_for(kind, primary, Extent::Whole), "{cell:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn each_cell_has_a_name_of_its_own() {
        let mut names: Vec<_> = Cell::ALL.iter().map(|cell| cell.name()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), Cell::ALL.len());
    }
}
