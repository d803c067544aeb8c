//! The arms `raw` and `raw-warm`: the browser driven as directly as it goes.
//!
//! In: a job. Out: the picture. `raw` opens a context and a tab for each capture and disposes of them, as isolation
//! demands; `raw-warm` keeps tabs. One browser per core, used in turn, so that a saturated machine is the browser's
//! limit and not one process's. Must not: skip a step that a correct capture needs.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::launch::Browser;
use super::pipe::Pipe;
use super::{Setup, Shot, ms};
use crate::Failure;
use crate::protocol::{Format, Job, QUALITY};

/// No page of the benchmark takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context {
    browser_context_id: String,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    target_id: String,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    session_id: String,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Navigated {
    error_text: Option<String>,
}
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metrics {
    css_content_size: Size,
}
#[derive(Deserialize)]
struct Size {
    height: f64,
}
#[derive(Deserialize)]
struct Image {
    data: String,
}

/// An open page.
struct Tab {
    pipe: Pipe,
    context: String,
    session: String,
    events: mpsc::UnboundedReceiver<String>,
}

/// The browsers and, if they are kept, the tabs.
pub struct Raw {
    setup: Setup,
    warm: bool,
    browsers: Vec<Browser>,
    in_flight: Vec<Mutex<usize>>,
    kept: Vec<Mutex<Vec<Tab>>>,
}

impl Raw {
    /// Starts the browsers.
    pub async fn start(setup: &Setup, warm: bool) -> Result<(Self, String), Failure> {
        let mut browsers = Vec::new();
        for _ in 0..std::thread::available_parallelism()?.get() {
            browsers.push(Browser::start(&setup.browser, setup.site.ip()).await?);
        }
        let product = browsers
            .first()
            .map(|browser| browser.product.clone())
            .unwrap_or_default();
        let raw = Self {
            setup: setup.clone(),
            warm,
            in_flight: browsers.iter().map(|_| Mutex::default()).collect(),
            kept: browsers.iter().map(|_| Mutex::default()).collect(),
            browsers,
        };
        Ok((raw, product))
    }

    /// Takes one picture.
    pub async fn capture(&self, job: &Job) -> Result<Shot, Failure> {
        let turn = self.take_turn();
        let captured = tokio::time::timeout(PATIENCE, self.capture_on(turn, job)).await;
        *lock(&self.in_flight[turn]) -= 1;
        captured.map_err(|_| "timeout")?
    }

    /// A browser of its own: start, an empty page, end.
    pub async fn launch(&self) -> Result<Shot, Failure> {
        let began = Instant::now();
        let browser = Browser::start(&self.setup.browser, self.setup.site.ip()).await?;
        let answered = began.elapsed();
        let _tab = Tab::open(&browser.pipe).await?;
        let latency = began.elapsed();
        let phases = vec![
            ("answer".to_owned(), ms(answered)),
            ("page".to_owned(), ms(latency) - ms(answered)),
        ];
        Ok(Shot {
            picture: bytes::Bytes::new(),
            latency,
            phases,
        })
    }

    /// The browser with the least to do.
    fn take_turn(&self) -> usize {
        let loads = self.in_flight.iter().map(|load| *lock(load)).enumerate();
        let turn = loads.min_by_key(|(_, load)| *load).map_or(0, |(turn, _)| turn);
        *lock(&self.in_flight[turn]) += 1;
        turn
    }

    async fn capture_on(&self, turn: usize, job: &Job) -> Result<Shot, Failure> {
        let began = Instant::now();
        let kept = if self.warm { lock(&self.kept[turn]).pop() } else { None };
        let mut tab = match kept {
            Some(tab) => tab,
            None => Tab::open(&self.browsers[turn].pipe).await?,
        };
        tab.resize(job).await?;
        let opened = began.elapsed();
        tab.load(job).await?;
        let loaded = began.elapsed();
        let picture = tab.shoot(job).await?;
        let latency = began.elapsed();
        if self.warm {
            lock(&self.kept[turn]).push(tab);
        } else {
            tab.close().await?;
        }
        let phases = vec![
            ("open".to_owned(), ms(opened)),
            ("load".to_owned(), ms(loaded) - ms(opened)),
            ("render".to_owned(), ms(latency) - ms(loaded)),
            ("close".to_owned(), ms(began.elapsed()) - ms(latency)),
        ];
        Ok(Shot {
            picture: picture.into(),
            latency,
            phases,
        })
    }
}

impl Tab {
    async fn open(pipe: &Pipe) -> Result<Self, Failure> {
        let params = json!({"disposeOnDetach": true});
        let Context {
            browser_context_id: context,
        } = pipe.call(None, "Target.createBrowserContext", params).await?;
        let params = json!({"url": "about:blank", "browserContextId": context});
        let Target { target_id } = pipe.call(None, "Target.createTarget", params).await?;
        let params = json!({"targetId": target_id, "flatten": true});
        let Session { session_id: session } = pipe.call(None, "Target.attachToTarget", params).await?;
        let events = pipe.events(&session);
        let tab = Self {
            pipe: pipe.clone(),
            context,
            session,
            events,
        };
        // Its answer must be there before the navigation is asked for, or the load event can be lost.
        let _: IgnoredAny = tab.call("Page.enable", json!({})).await?;
        Ok(tab)
    }

    async fn call<R: serde::de::DeserializeOwned>(&self, method: &str, params: Value) -> Result<R, Failure> {
        self.pipe.call(Some(&self.session), method, params).await
    }

    async fn resize(&self, job: &Job) -> Result<(), Failure> {
        let params = json!({"width": job.width, "height": job.height, "deviceScaleFactor": 1, "mobile": false});
        let _: IgnoredAny = self.call("Emulation.setDeviceMetricsOverride", params).await?;
        Ok(())
    }

    async fn load(&mut self, job: &Job) -> Result<(), Failure> {
        // Whatever the empty page had to say has been said: the renderer answered just now.
        while self.events.try_recv().is_ok() {}
        let Navigated { error_text } = self.call("Page.navigate", json!({"url": job.url})).await?;
        if let Some(error) = error_text {
            return Err(error.into());
        }
        loop {
            let event = self.events.recv().await.ok_or("the browser closed its pipe")?;
            if event == "Page.loadEventFired" {
                return Ok(());
            }
        }
    }

    async fn shoot(&self, job: &Job) -> Result<Vec<u8>, Failure> {
        let mut params = match job.format {
            Format::Png => json!({"format": "png", "optimizeForSpeed": true}),
            Format::PngSmall => json!({"format": "png"}),
            Format::Jpeg | Format::Webp => json!({"format": job.format.name(), "quality": QUALITY}),
        };
        if job.full_page {
            let Metrics { css_content_size } = self.call("Page.getLayoutMetrics", json!({})).await?;
            let height = css_content_size.height.ceil().max(f64::from(job.height));
            params["captureBeyondViewport"] = json!(true);
            params["clip"] = json!({"x": 0, "y": 0, "width": job.width, "height": height, "scale": 1});
        }
        let Image { data } = self.call("Page.captureScreenshot", params).await?;
        Ok(base64::engine::general_purpose::STANDARD.decode(data)?)
    }

    async fn close(self) -> Result<(), Failure> {
        self.pipe.forget(&self.session);
        let params = json!({"browserContextId": self.context});
        let _: IgnoredAny = self.pipe.call(None, "Target.disposeBrowserContext", params).await?;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
