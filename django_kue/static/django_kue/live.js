// Keeps a page of the admin up to date: fetches it anew and swaps the regions that changed.
//
//   <div data-kue-live="2">            every two seconds, while the tab is visible
//     <p data-kue="counts">…</p>       a region, found again by its name
//     <button data-kue-pause>…</button>
//
// Scripts of single pages can listen to two events of the document: `kue:fetched` (detail: the new
// document) before regions are swapped, and `kue:swapped` (detail: the regions) afterwards.
// A region that holds the focus, or a part of the selection, is left alone until the next round.
//
// A form with `data-kue-post` is sent from here when it leads back to the same page: the regions and the
// messages change, and nothing else does. Without this script it's an ordinary form.
"use strict";
(() => {
    const root = document.querySelector("[data-kue-live]");
    if (!root) {
        return;
    }
    const usual = 1000 * Number(root.dataset.kueLive);
    const longest = 30000;
    const seen = new WeakMap(); // region → what the server last sent for it
    let pause = usual;
    let timer = null;
    let isPaused = false;

    function isBusy(region) {
        const selection = document.getSelection();
        const isSelected = selection && !selection.isCollapsed && region.contains(selection.anchorNode);
        const focused = document.activeElement;
        const isTyping = focused !== document.body && region.contains(focused) &&
            focused.matches("input, select, textarea, [open] *");
        return isSelected || isTyping;
    }

    // What the reader opened stays open.
    function swap(region, incoming) {
        const focusedId = region.contains(document.activeElement) ? document.activeElement.id : "";
        const opened = [...region.querySelectorAll("details[open][id]")].map((details) => details.id);
        region.innerHTML = incoming.innerHTML;
        region.className = incoming.className;
        for (const id of opened) {
            document.getElementById(id)?.setAttribute("open", "");
        }
        if (focusedId) {
            document.getElementById(focusedId)?.focus({preventScroll: true});
        }
    }

    function take(page, isAsked = false) {
        document.dispatchEvent(new CustomEvent("kue:fetched", {detail: page}));
        const swapped = [];
        for (const region of document.querySelectorAll("[data-kue]")) {
            const incoming = page.querySelector(`[data-kue="${CSS.escape(region.dataset.kue)}"]`);
            if (incoming && incoming.innerHTML !== seen.get(region) && (isAsked || !isBusy(region))) {
                if (incoming.innerHTML !== region.innerHTML) {
                    swap(region, incoming);
                    swapped.push(region);
                }
                seen.set(region, incoming.innerHTML);
            }
        }
        if (swapped.length) {
            document.dispatchEvent(new CustomEvent("kue:swapped", {detail: swapped}));
        }
    }

    async function refresh() {
        try {
            const response = await fetch(location.href, {headers: {"X-Kue-Live": "1"}, credentials: "same-origin"});
            if (response.redirected || response.status === 404 || response.status === 403) {
                location.reload(); // logged out, or what the page showed is gone
                return;
            }
            root.classList.toggle("kue-stale", !response.ok);
            if (response.ok) {
                take(new DOMParser().parseFromString(await response.text(), "text/html"));
                pause = usual;
            } else {
                pause = Math.min(2 * pause, longest);
            }
        } catch (error) {
            root.classList.add("kue-stale"); // the site is away: what's shown is old
            pause = Math.min(2 * pause, longest);
        }
        schedule();
    }

    // Django's messages in an answer replace those that are shown.
    function tell(page) {
        const incoming = page.querySelector("ul.messagelist");
        const shown = document.querySelector("ul.messagelist");
        if (shown) {
            shown.replaceWith(incoming ?? "");
        } else if (incoming) {
            document.getElementById("content").before(incoming);
        }
        incoming?.setAttribute("role", "status");
    }

    async function post(form, submitter) {
        const data = new FormData(form, submitter);
        form.toggleAttribute("inert", true);
        try {
            const target = submitter?.hasAttribute("formaction") ? submitter.formAction : form.action;
            const response = await fetch(target, {method: "POST", body: data, credentials: "same-origin"});
            if (!response.redirected && !response.ok) {
                location.reload(); // refused, or Redis is away: the page will say so
                return;
            }
            if (new URL(response.url).pathname !== location.pathname) {
                location.assign(response.url);
                return;
            }
            const page = new DOMParser().parseFromString(await response.text(), "text/html");
            if (page.querySelector("[data-kue-live]")) {
                take(page, true);
                tell(page);
            } else {
                location.reload(); // refused: the page will say why
            }
        } catch (error) {
            root.classList.add("kue-stale");
        }
        form.toggleAttribute("inert", false);
    }

    function schedule() {
        clearTimeout(timer);
        if (!isPaused && !document.hidden) {
            timer = setTimeout(refresh, pause);
        }
    }

    document.addEventListener("submit", (event) => {
        if (event.target.matches("form[data-kue-post]")) {
            event.preventDefault();
            post(event.target, event.submitter);
        }
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden && !isPaused) {
            refresh();
        }
    });
    document.addEventListener("click", (event) => {
        const button = event.target.closest("[data-kue-pause]");
        if (button) {
            isPaused = !isPaused;
            button.setAttribute("aria-pressed", String(isPaused));
            root.classList.toggle("kue-paused", isPaused);
            if (isPaused) {
                clearTimeout(timer);
            } else {
                refresh();
            }
        }
    });
    for (const button of document.querySelectorAll("[data-kue-pause]")) {
        button.hidden = false;
    }
    schedule();
})();
