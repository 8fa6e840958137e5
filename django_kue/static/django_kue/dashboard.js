// Draws the dashboard's plots, and keeps them up to date. live.js takes care of everything else on the page.
//
// The numbers come with the page (#kue-data), then from data-url. Texts come from data- attributes.
"use strict";
(() => {
    const holder = document.getElementById("kue-plots");
    const first = document.getElementById("kue-data");
    if (!holder || !first || typeof uPlot === "undefined") {
        return;
    }
    const root = holder.closest("[data-kue-live]");
    const text = holder.dataset;
    const locale = text.locale || document.documentElement.lang || undefined;
    const PAUSE = {"5m": 5, "1h": 10, "24h": 60, "7d": 300}; // seconds; about half a bucket
    const LONGEST = 300;
    const LATEST = 12; // rows of the table
    const HEIGHT = 170;
    root.classList.add("kue-scripted");

    let data = JSON.parse(first.textContent);
    let plots = {};
    let timer = null;
    let failures = 0;
    let asked = 0;

    // ── how numbers and times are shown ──

    const number = new Intl.NumberFormat(locale, {maximumFractionDigits: 1});
    const compact = new Intl.NumberFormat(locale, {notation: "compact", maximumFractionDigits: 1});
    const percent = new Intl.NumberFormat(locale, {style: "percent", maximumFractionDigits: 0});
    const clock = new Intl.DateTimeFormat(locale, {hour: "numeric", minute: "2-digit"});
    const exactClock = new Intl.DateTimeFormat(locale, {hour: "numeric", minute: "2-digit", second: "2-digit"});
    const day = new Intl.DateTimeFormat(locale, {month: "short", day: "numeric"});
    const dayAndClock = new Intl.DateTimeFormat(locale, {month: "short", day: "numeric", hour: "numeric", minute: "2-digit"});
    const units = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"], [0.001, "millisecond"]].map(
        ([seconds, unit]) => [seconds, new Intl.NumberFormat(locale, {
            style: "unit", unit, unitDisplay: "short", maximumSignificantDigits: 3,
        })],
    );
    const orDash = (say) => (value) => (value === null || value === undefined ? "–" : say(value));
    const sayNumber = orDash((value) => number.format(value));
    const sayPercent = orDash((value) => percent.format(value));
    const saySeconds = orDash((value) => {
        const [size, format] = units.find(([seconds]) => value >= seconds) || units.at(-1);
        return format.format(value / size);
    });
    const sayMoment = (seconds) => (data.step >= 300 ? dayAndClock : exactClock).format(1000 * seconds);

    function sayAxis(plot, splits) {
        let before = "";
        return splits.map((seconds, index) => {
            const moment = new Date(1000 * seconds);
            const step = splits.length > 1 ? splits[1] - splits[0] : 60;
            if (step >= 86400) {
                return day.format(moment);
            }
            const today = day.format(moment);
            const isNewDay = data.step >= 300 && today !== before && (index > 0 || moment.getHours() === 0);
            before = today;
            return isNewDay ? today : (step < 60 ? exactClock : clock).format(moment);
        });
    }

    // ── what's drawn ──

    const perMinute = (counts) => {
        const passed = Math.max(1, Math.min(data.step, Date.now() / 1000 - data.times.at(-1)));
        return counts.map((count, index) => {
            const isRunning = index === counts.length - 1;
            if (isRunning && passed < data.step / 2) {
                return null; // too little time to tell
            }
            return (60 * count) / (isRunning ? passed : data.step);
        });
    };
    const line = (label, tone, values, say, more = {}) => ({label, tone, values, say, ...more});
    const quantiles = (name) => [
        line(text.half, "--kue-line-1", data[`${name}_p50`], saySeconds, {spread: true}),
        line(text.most, "--kue-line-2", data[`${name}_p95`], saySeconds, {spread: true}),
    ];

    const DRAWN = {
        throughput: () => [
            line(text.completed, "--kue-completed", perMinute(data.completed), sayNumber, {filled: true}),
            line(text.retried, "--kue-waiting", perMinute(data.retried), sayNumber, {dash: [5, 4]}),
            line(text.failed, "--kue-failed", perMinute(data.failed), sayNumber),
        ],
        waiting: () => quantiles("wait"),
        running: () => quantiles("run"),
        depth: () => data.depth.map(({queue, values}, index) =>
            line(queue ?? text.others, `--kue-line-${Math.min(index, 8) + 1}`, values, sayNumber)),
        load: () => [line(text.busy, "--kue-active", data.utilisation, sayPercent, {filled: true})],
    };
    const AXES = {waiting: saySeconds, running: saySeconds, load: sayPercent};
    const RANGES = {
        load: () => [0, 1],
        waiting: (plot, low, high) => [0, high ? 1.1 * high : 1],
        running: (plot, low, high) => [0, high ? 1.1 * high : 1],
    };
    const upFromZero = (plot, low, high) => [0, Math.max(1, 1.1 * high)];
    const axisNumber = (value) => compact.format(value);

    const tone = (name) => getComputedStyle(root).getPropertyValue(name).trim() || "#666";
    const withAlpha = (color) => (/^#[0-9a-f]{6}$/i.test(color) ? `${color}26` : "transparent");
    const hasValues = (lines) => lines.some(({values}) => values.some((value) => value));

    function options(name, lines, width) {
        const quiet = tone("--kue-quiet");
        const hairline = tone("--kue-hairline");
        const font = `11px ${getComputedStyle(root).fontFamily}`;
        const say = AXES[name] || axisNumber;
        const axis = {stroke: quiet, font, grid: {stroke: hairline, width: 1}, ticks: {stroke: hairline, width: 1, size: 4}};
        return {
            width,
            height: HEIGHT,
            padding: [null, 28, null, null],
            hooks: {setCursor: [(plot) => plot.cursor.idx ?? sayLatest(plot)]},
            cursor: {sync: {key: "kue"}, drag: {x: false, y: false}, y: false, points: {size: 6}},
            legend: {live: true},
            scales: {x: {time: true}, y: {range: RANGES[name] || upFromZero}},
            axes: [
                {...axis, space: 70, size: 30, values: sayAxis},
                {...axis, size: 62, space: 32, values: (plot, splits) => splits.map((value) => say(value))},
            ],
            series: [
                {label: text.time, value: (plot, seconds) => (seconds === null ? "–" : sayMoment(seconds))},
                ...lines.map((one) => ({
                    label: one.label,
                    stroke: tone(one.tone),
                    fill: one.filled ? withAlpha(tone(one.tone)) : undefined,
                    width: 1.5,
                    dash: one.dash,
                    points: {show: one.spread ? isolated : false, size: 4, fill: tone(one.tone)},
                    value: (plot, value) => one.say(value),
                })),
            ],
        };
    }

    // A value between two gaps would be a line of no length, so it needs a point.
    function isolated(plot, series, from, to) {
        const values = plot.data[series];
        for (let index = from; index <= to; index++) {
            if (values[index] !== null && (values[index - 1] ?? null) === null && (values[index + 1] ?? null) === null) {
                return true;
            }
        }
        return false;
    }

    // Without a pointer, the legend shows the newest numbers.
    function sayLatest(plot) {
        const known = plot.data[1].findLastIndex((value) => value !== null);
        plot.setLegend({idx: known < 0 ? plot.data[0].length - 1 : known});
    }

    function draw(name) {
        const figure = holder.querySelector(`[data-plot="${name}"]`);
        const canvas = figure.querySelector(".kue-canvas");
        const lines = DRAWN[name]();
        const columns = [data.times, ...lines.map(({values}) => values)];
        const labels = lines.map(({label}) => label).join("\n");
        canvas.dataset.none = text.none;
        canvas.classList.toggle("kue-empty", !hasValues(lines));
        if (plots[name]?.labels === labels) {
            plots[name].plot.setData(columns);
        } else {
            plots[name]?.plot.destroy();
            plots[name] = {plot: new uPlot(options(name, lines, canvas.clientWidth), columns, canvas), labels};
        }
        if (plots[name].plot.cursor.idx === null || plots[name].plot.cursor.idx === undefined) {
            sayLatest(plots[name].plot);
        }
        canvas.setAttribute("aria-label", `${figure.querySelector("figcaption").textContent}: ${latestOf(lines)}`);
    }

    const latestOf = (lines) => lines.map(({label, values, say}) => {
        const known = values.filter((value) => value !== null);
        return `${label} ${say(known.at(-1) ?? null)}`;
    }).join(", ");

    function drawAll() {
        Object.keys(DRAWN).forEach(draw);
        tabulate();
        document.getElementById("kue-updated").textContent = `${text.updated} ${exactClock.format(new Date())}`;
    }

    function rebuild() {
        Object.values(plots).forEach(({plot}) => plot.destroy());
        plots = {};
        drawAll();
    }

    function tabulate() {
        const body = document.querySelector("#kue-numbers tbody");
        const depthAt = (index) => {
            const known = data.depth.map(({values}) => values[index]).filter((value) => value !== null);
            return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
        };
        const last = data.times.length - 1;
        const rows = Array.from({length: Math.min(LATEST, last + 1)}, (unused, back) => last - back).map((index) => {
            const row = document.createElement("tr");
            const cells = [
                sayMoment(data.times[index]),
                ...["completed", "failed", "retried"].map((name) => sayNumber(data[name][index])),
                ...["wait_p50", "wait_p95", "run_p50", "run_p95"].map((name) => saySeconds(data[name][index])),
                sayNumber(depthAt(index)),
                sayPercent(data.utilisation[index]),
            ];
            cells.forEach((words, column) => {
                const cell = document.createElement(column ? "td" : "th");
                cell.className = column ? "kue-number kue-right" : "kue-number";
                if (!column) {
                    cell.scope = "row";
                }
                cell.textContent = words;
                row.append(cell);
            });
            return row;
        });
        body.replaceChildren(...rows);
    }

    // ── keeping up to date ──

    const say = (words) => {
        document.getElementById("kue-said").textContent = words;
    };
    const isPaused = () => root.classList.contains("kue-paused");

    async function refresh(window) {
        const turn = ++asked;
        const question = new URLSearchParams({window});
        if (text.queue) {
            question.set("queue", text.queue);
        }
        try {
            const response = await fetch(`${text.url}?${question}`, {credentials: "same-origin"});
            if (response.redirected || response.status === 403) {
                location.reload(); // logged out
                return;
            }
            if (!response.ok) {
                throw new Error(`${response.status}`);
            }
            const answer = await response.json();
            if (turn === asked) { // not overtaken by a newer request
                const isOther = answer.window !== data.window;
                data = answer;
                failures = 0;
                holder.classList.remove("kue-stale");
                isOther ? rebuild() : drawAll();
            }
        } catch (error) {
            if (!failures++) {
                say(text.stale);
            }
            holder.classList.add("kue-stale");
        }
        schedule();
    }

    function schedule() {
        clearTimeout(timer);
        if (!isPaused() && !document.hidden) {
            const pause = Math.min(PAUSE[data.window] * 2 ** Math.min(failures, 6), LONGEST);
            timer = setTimeout(() => refresh(data.window), 1000 * pause);
        }
    }

    document.addEventListener("visibilitychange", () => {
        if (!document.hidden && !isPaused()) {
            refresh(data.window);
        }
    });

    // live.js owns the pause button; its effect shows on the root element.
    let wasPaused = isPaused();
    new MutationObserver(() => {
        if (isPaused() !== wasPaused) {
            wasPaused = isPaused();
            say(wasPaused ? text.paused : text.resumed);
            wasPaused ? clearTimeout(timer) : refresh(data.window);
        }
    }).observe(root, {attributes: true, attributeFilter: ["class"]});

    // ── window and queue ──

    document.querySelector(".kue-windows").addEventListener("click", (event) => {
        const link = event.target.closest("[data-kue-window]");
        if (!link || event.ctrlKey || event.metaKey || event.shiftKey) {
            return;
        }
        event.preventDefault();
        document.querySelectorAll("[data-kue-window]").forEach((one) => one.removeAttribute("aria-current"));
        link.setAttribute("aria-current", "true");
        document.querySelector(".kue-queue-form [name=window]").value = link.dataset.kueWindow;
        history.replaceState(null, "", link.href); // what live.js and a reload fetch from now on
        refresh(link.dataset.kueWindow);
    });
    document.getElementById("kue-queue").addEventListener("change", (event) => event.target.form.requestSubmit());

    // ── size and colours ──

    new ResizeObserver(() => {
        for (const [name, {plot}] of Object.entries(plots)) {
            const width = holder.querySelector(`[data-plot="${name}"] .kue-canvas`).clientWidth;
            if (width && width !== plot.width) {
                plot.setSize({width, height: HEIGHT});
            }
        }
    }).observe(holder);
    new MutationObserver(rebuild).observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", rebuild);

    drawAll();
    schedule();
})();
