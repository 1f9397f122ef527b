//! What all pages share: head, navigation, language, footer.

use consilium_models::decision::knowledge::Language;
use maud::{DOCTYPE, Markup, html};

use super::words::{Words, tag, words};
use crate::serving::access::Visit;

/// A page's place in the navigation: its address, and its name. Pages of other duties join here.
type Place = (&'static str, fn(&Words) -> &'static str);

const PLACES: [Place; 1] = [("/", |words| words.nav_try)];

/// What a page is.
pub(super) struct Page<'a> {
    pub(super) language: Language,
    pub(super) title: &'a str,
    /// Its own address, for the switch of languages.
    pub(super) address: &'a str,
    pub(super) visit: Option<&'a Visit>,
    /// Seconds after which a browser looks again.
    pub(super) look_again: Option<u32>,
}

impl Page<'_> {
    /// The page with its content.
    pub(super) fn with(&self, content: &Markup) -> Markup {
        let (words, language) = (words(self.language), tag(self.language));
        let code = match self.language {
            Language::En => "en",
            Language::Zh => "zh-CN",
        };
        html! {
            (DOCTYPE)
            html lang=(code) {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="robots" content="noindex";
                    @if let Some(seconds) = self.look_again {
                        meta http-equiv="refresh" content=(seconds);
                    }
                    title { (self.title) " – " (words.product) }
                    link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                    link rel="stylesheet" href="/assets/page.css";
                    script src="/assets/page.js" defer {}
                }
                body {
                    a.skip href="#content" { (words.skip) }
                    header.top {
                        a.brand href={ "/?lang=" (language) } { (words.product) }
                        @if let Some(visit) = self.visit {
                            nav {
                                @for (address, name) in PLACES {
                                    a href={ (address) "?lang=" (language) }
                                        aria-current=[(address == self.address).then_some("page")] { (name(words)) }
                                }
                            }
                            span.who { (visit.caller.name) }
                            form method="post" action={ "/log-out?lang=" (language) } {
                                (form_key(visit))
                                button.quiet type="submit" { (words.log_out) }
                            }
                        }
                        span.languages {
                            a href={ (self.address) "?lang=en" } lang="en" hreflang="en"
                                aria-current=[(self.language == Language::En).then_some("true")] { "English" }
                            a href={ (self.address) "?lang=zh" } lang="zh-CN" hreflang="zh-CN"
                                aria-current=[(self.language == Language::Zh).then_some("true")] { "中文" }
                        }
                    }
                    p.research role="note" { (words.research) }
                    main #content { (content) }
                    footer { p { (words.stays) } }
                }
            }
        }
    }
}

/// What shows that a form is of this visit.
pub(super) fn form_key(visit: &Visit) -> Markup {
    html! { input type="hidden" name="form_key" value=(visit.form_key); }
}
