//! The commands that are given to a browser: what is sent is the protocol's own type, what is read of an answer is ours.
//!
//! In: nothing. Out: for each command its name on the wire and the few fields of its answer that are used, so that a
//! newer browser's answer, with fields gone or changed that nobody reads, is still understood. Must not: have a command
//! that is not given: this is the whole list of what the driver can ask for.

use chromiumoxide_cdp::cdp::browser_protocol::browser::{GetVersionParams, SetDownloadBehaviorParams};
use chromiumoxide_cdp::cdp::browser_protocol::emulation::SetDeviceMetricsOverrideParams;
use chromiumoxide_cdp::cdp::browser_protocol::target::{
    AttachToTargetParams, CreateBrowserContextParams, CreateTargetParams, DisposeBrowserContextParams,
    SetAutoAttachParams,
};
use chromiumoxide_cdp::cdp::browser_protocol::{inspector, network, page};
use chromiumoxide_cdp::cdp::js_protocol::runtime::CallFunctionOnParams;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A command of the protocol.
pub trait Command: Serialize {
    /// Its name on the wire, such as `Page.navigate`.
    const METHOD: &'static str;
    /// What is read of its answer.
    type Answer: DeserializeOwned;
}

/// `PARAMETERS => ANSWER`: the name is the one that the protocol's type carries.
macro_rules! commands {
    ($($parameters:ty => $answer:ty;)*) => {
        $(impl Command for $parameters {
            const METHOD: &'static str = <$parameters>::IDENTIFIER;
            type Answer = $answer;
        })*
    };
}

commands! {
    GetVersionParams => Version;
    CreateBrowserContextParams => Context;
    SetDownloadBehaviorParams => Nothing;
    DisposeBrowserContextParams => Nothing;
    CreateTargetParams => Target;
    AttachToTargetParams => Session;
    SetAutoAttachParams => Nothing;
    SetDeviceMetricsOverrideParams => Nothing;
    inspector::EnableParams => Nothing;
    network::EnableParams => Nothing;
    page::EnableParams => Nothing;
    page::SetLifecycleEventsEnabledParams => Nothing;
    page::HandleJavaScriptDialogParams => Nothing;
    page::NavigateParams => Navigation;
    page::GetLayoutMetricsParams => Metrics;
    page::CaptureScreenshotParams => Data;
    page::PrintToPdfParams => Data;
    page::CreateIsolatedWorldParams => World;
    CallFunctionOnParams => Called;
}

/// An answer of which nothing is read.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

/// Of `Browser.getVersion`.
#[derive(Debug, Deserialize)]
pub struct Version {
    /// Such as `HeadlessChrome/140.0.0.0`.
    pub product: String,
}

/// Of `Target.createBrowserContext`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// The new context.
    pub browser_context_id: String,
}

/// Of `Target.createTarget`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The new page.
    pub target_id: String,
}

/// Of `Target.attachToTarget`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// Under which the page is talked to.
    pub session_id: String,
}

/// Of `Page.navigate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Navigation {
    /// The document that is being loaded, if one will be.
    pub loader_id: Option<String>,
    /// Chromium's own error word (`net::ERR_…`).
    pub error_text: Option<String>,
    /// Whether the answer is a file to be kept.
    #[serde(default)]
    pub is_download: bool,
}

/// Of `Page.getLayoutMetrics`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// The document's size.
    pub css_content_size: Size,
}

/// A size in CSS pixels.
#[derive(Debug, Deserialize)]
pub struct Size {
    /// CSS pixels.
    pub width: f64,
    /// CSS pixels.
    pub height: f64,
}

/// Of `Page.captureScreenshot` and `Page.printToPDF`.
#[derive(Debug, Deserialize)]
pub struct Data {
    /// In base64.
    pub data: String,
}

/// Of `Page.createIsolatedWorld`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct World {
    /// Where functions are called.
    pub execution_context_id: i64,
}

/// Of `Runtime.callFunctionOn`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Called {
    /// What it gave.
    pub result: Returned,
    /// There if it failed.
    pub exception_details: Option<serde::de::IgnoredAny>,
}

/// What a function gave, as JSON.
#[derive(Debug, Deserialize)]
pub struct Returned {
    /// Absent for `undefined`.
    pub value: Option<Box<RawValue>>,
}
