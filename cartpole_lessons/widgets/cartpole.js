// CartPole in the page: Gymnasium's physics, the lessons' networks, and a game. No library, no network, no build step.
"use strict";

const TRACK = 2.4, LEAN = (12 * 2 * Math.PI) / 360, TAU = 0.02;
//: What a gust or a hit adds to the angular velocity of a pole [rad/s].
const GUST = 0.7;
//: Newtons of a push, kilograms of the pole, and half of its length in metres.
const WORLD = { force: 10, mass: 0.1, half: 0.5 };

/** a times b as a sum of two numbers, without any rounding (Dekker, 1971). */
function product(a, b) {
  const split = (number) => 134217729 * number - (134217729 * number - number);
  const p = a * b, high = split(a), low = a - high, other = split(b), rest = b - other;
  return [p, high * other - p + high * rest + low * other + low * rest];
}

/**
 * Sine and cosine of small angles, correctly rounded but for a few in a thousand. Browsers' own differ in the last bit from the C library's,
 * and a falling pole multiplies such a difference.
 */
function sineAndCosine(x) {
  if (Math.abs(x) > 0.4) return [Math.sin(x), Math.cos(x)];
  const [z, rest] = product(x, x);
  // sin x = x + x q, where q = -z/6 + z^2/120 - ... is wanted to more than 53 bits.
  const sixth = -z / 6, tail = z * z * (1 / 120 - z * (1 / 5040 - z * (1 / 362880 - z * (1 / 39916800 - z / 6227020800))));
  const [six, left] = product(6, sixth);
  const small = (-z - six - left - rest) / 6 + tail;
  const [main, error] = product(x, sixth);
  const sum = x + main;
  const half = 1 - z / 2;
  const curve = z * z * (1 / 24 - z * (1 / 720 - z * (1 / 40320 - z * (1 / 3628800 - z / 479001600))));
  return [sum + (x - sum + main + (error + x * small)), half + (1 - half - z / 2 + (curve - rest / 2))];
}

/** One Euler step of Gymnasium's CartPole, in its order of operations: state [x, x_dot, theta, theta_dot], force [N]. */
function step(state, force, { mass, half } = WORLD) {
  const [x, xDot, theta, thetaDot] = state;
  const [sine, cosine] = sineAndCosine(theta);
  const total = mass + 1, moment = mass * half;
  const push = (force + moment * (thetaDot * thetaDot) * sine) / total;
  const thetaAcc = (9.8 * sine - cosine * push) / (half * (4.0 / 3.0 - (mass * (cosine * cosine)) / total));
  const xAcc = push - (moment * thetaAcc * cosine) / total;
  return [x + TAU * xDot, xDot + TAU * xAcc, theta + TAU * thetaDot, thetaDot + TAU * thetaAcc];
}

const fallen = ([x, , theta]) => Math.abs(x) > TRACK || Math.abs(theta) > LEAN;
const observed = (state) => state.map(Math.fround);

/** What a network of the lessons says of an observation: layers of {weight, bias, activation} after a scale. */
function outputs(network, observation) {
  let values = observation.map((value, i) => value * network.scale[i]);
  for (const { weight, bias, activation } of network.layers) {
    values = weight.map((row, i) => row.reduce((sum, w, j) => sum + w * values[j], bias[i]));
    if (activation === "tanh") values = values.map(Math.tanh);
    if (activation === "relu") values = values.map((value) => Math.max(value, 0));
  }
  return values;
}

/** How much a network prefers to push to the right: its output, or by how much the second of two is the larger one. */
function preference(network, observation) {
  const [one, two] = outputs(network, observation);
  return two === undefined ? one : two - one;
}

/** The push of a network, -1 or 1, or anything between where its output is `real`. */
function pushOf(network, observation) {
  const right = preference(network, observation);
  return network.real ? Math.max(-1, Math.min(1, right)) : right > 0 ? 1 : -1;
}

/** One cart: its state, how long it has stood, and what pushed it last. */
class Cart {
  constructor(start) { this.state = start.slice(); this.steps = 0; this.push = 0; this.down = false; this.done = false; }
  move(push, world = WORLD, pull = 0) {
    if (this.down) return;
    this.push = push;
    this.state = step(this.state, push * world.force + pull, world);
    this.down = fallen(this.state);
    this.steps += 1;
    if (this.steps >= 500) this.done = true;
  }
}

const LIGHT = "color-scheme: light; --ink: #222; --paper: #fff; --track: #777; --cart: #0072b2; --pole: #d55e00; --soft: #eef1f4;";
const DARK = "color-scheme: dark; --ink: #eee; --paper: #121212; --track: #999; --cart: #56b4e9; --pole: #e69f00; --soft: #2a2d31;";
//: As the reader's browser is, unless the page around it says light or dark in `data-theme`.
const STYLE = `
  :root, :root[data-theme="light"] { ${LIGHT} } @media (prefers-color-scheme: dark) { :root { ${DARK} } } :root[data-theme="dark"] { ${DARK} }
  * { box-sizing: border-box; } body { margin: 0; font: 16px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
  main { max-width: 640px; padding: 8px; outline: none; border-radius: 10px; } main:focus-visible { box-shadow: inset 0 0 0 3px var(--cart); }
  .top { display: flex; justify-content: space-between; align-items: baseline; gap: 1em; } .score { font-size: 2em; font-weight: 700; font-variant-numeric: tabular-nums; }
  canvas { display: block; width: 100%; height: 150px; } .name { font-size: 0.85em; opacity: 0.8; }
  .keys { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; } button { font: inherit; padding: 0.7em; border: 0; border-radius: 8px; color: var(--ink); background: var(--soft); touch-action: none; user-select: none; }
  [hidden] { display: none !important; } select { font: inherit; } :is(button, input, select, .map):focus-visible { outline: 3px solid var(--cart); } .keys button { font-size: 1.4em; } button:active, button.on { background: var(--cart); color: var(--paper); }
  .more { display: flex; flex-wrap: wrap; gap: 8px 1em; align-items: center; margin-top: 8px; } .words { min-height: 1.4em; }
  label { display: flex; gap: 0.5em; align-items: center; font-size: 0.9em; }
  .both { display: flex; flex-wrap: wrap; gap: 12px; } .both > div { flex: 1 1 260px; } .map { height: 260px; cursor: crosshair; } .gains { touch-action: none; }
  .more .at { flex: 1 1 140px; } .curve { display: grid; grid-template-columns: 8.5em 7em 1fr; align-items: center; font-size: 0.85em; }
  .both { user-select: none; } .pair > div { flex-basis: 120px; } .choose { grid-template-columns: 1fr; } .keys.choose button { font-size: 1em; } .both .cart { cursor: grab; touch-action: pan-y; }
  .studies { display: grid; grid-template-columns: repeat(20, 1fr); gap: 3px; margin: 8px 0; } i { aspect-ratio: 1; border-radius: 3px; background: var(--soft); } i.on { background: var(--cart); } select { max-width: 65vw; }
  .curve canvas { height: 36px; cursor: grab; touch-action: pan-y; } .curve output { font-variant-numeric: tabular-nums; }`;
const SPEED = (value) => `<label>Speed <input class="speed" type="range" min="0.1" max="2" step="0.1" value="${value}"><output>${value}</output></label>`;

const BODY = `<main tabindex="0" aria-label="CartPole: balance the pole with the left and right arrow keys" data-lm-suppress-shortcuts="true">
  <div class="top"><span class="score" aria-live="off">0.0 s</span><span class="best"></span></div>
  <div class="tracks"></div>
  <div class="words" role="status"></div>
  <div class="keys"><button class="left" aria-label="push to the left">&#9664;</button><button class="right" aria-label="push to the right">&#9654;</button></div>
  <div class="more"><button class="again">Again</button><button class="pause" aria-pressed="false">Pause</button><button class="gust">Gust of wind</button>
  ${SPEED(0.2)}</div></main>`;

function prepared(canvas) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

/** Where on a canvas the cart and its pole are [pixels]. A pole that hangs needs room below it, `hangs`. */
function place(canvas, cart, world, hangs = false) {
  const width = canvas.clientWidth, height = canvas.clientHeight, metre = width / (2 * TRACK + 0.8), ground = hangs ? height / 2 : height - 22;
  const x = width / 2 + cart.state[0] * metre, top = ground - 12, length = Math.min(2 * world.half * metre, top - 18);
  return { metre, ground, middle: [x, top], tip: [x + length * Math.sin(cart.state[2]), top - length * Math.cos(cart.state[2])] };
}

function draw(canvas, cart, world = WORLD, hangs = false) {
  const { pen, width } = prepared(canvas), at = place(canvas, cart, world, hangs), { metre, ground, middle: [x] } = at;
  pen.lineCap = "round"; pen.strokeStyle = colour("--track"); pen.lineWidth = 2; pen.beginPath();
  for (const end of [-TRACK, TRACK]) { pen.moveTo(width / 2 + end * metre, ground - 10); pen.lineTo(width / 2 + end * metre, ground + 12); }
  pen.moveTo(width / 2 - TRACK * metre, ground + 12); pen.lineTo(width / 2 + TRACK * metre, ground + 12); pen.stroke();
  pen.fillStyle = colour("--cart"); const wide = Math.min(48, metre); pen.fillRect(x - wide / 2, ground - 12, wide, 22);
  pen.strokeStyle = colour("--pole"); pen.lineWidth = 8; pen.beginPath(); pen.moveTo(...at.middle); pen.lineTo(...at.tip); pen.stroke();
  if (cart.push && !cart.down) { pen.fillStyle = colour("--ink"); pen.font = "18px sans-serif"; pen.textAlign = "center"; pen.fillText(cart.push < 0 ? "\u25c0" : "\u25b6", x + Math.sign(cart.push) * (wide / 2 + 14), ground + 5); }
  return { pen, ...at };
}

/** Calls `step` for every 20 ms of the cart's life while it runs, `speed()` times as fast as ours, and `show` before each new picture. */
function clock(root, { speed = () => 1, step, show }) {
  let frame = null, last, left;
  function tick(now) {
    frame = null;
    if (!root.isConnected) return;
    left += last === null ? 0 : Math.min(now - last, 100) / 1000 * speed();
    last = now; frame = requestAnimationFrame(tick);
    for (; left >= TAU && frame !== null; left -= TAU) step();
    show();
  }
  return {
    start() { if (frame === null) { last = null; left = 0; frame = requestAnimationFrame(tick); } },
    stop() { cancelAnimationFrame(frame); frame = null; },
  };
}

/** What tells Python, by way of the ear in the notebook around. `heard(id)` is called when it answers; `late(message)` if it has not after two seconds. */
function teller(game, { late, heard = () => {} }) {
  const waiting = new Map(), send = (message) => window.parent.postMessage({ ...message, cartpole: game }, "*");
  window.addEventListener("message", ({ data }) => {
    if (!data || !game || data.cartpole !== game) return;
    if (data.ear) waiting.forEach(send);  // it may come later than the page
    if (data.heard) { waiting.delete(data.heard); heard(data.heard); }
  });
  return (message) => {
    if (!game) return;
    const told = { id: Math.random(), ...message };
    waiting.set(told.id, told); send(told);
    setTimeout(() => { if (waiting.has(told.id)) late(told); }, 2000);
  };
}

/** The episodes of this tab that no Python has heard of, after `change`. Some frames have no storage. */
function unheard(change = (all) => all) {
  try {
    const all = change(JSON.parse(sessionStorage.cartpole || "[]"));
    sessionStorage.cartpole = JSON.stringify(all);
    return all;
  } catch { return []; }
}

/** `find` an element of the page in `root`, and `say` something to its reader. */
function within(root) {
  const find = (what) => root.querySelector(what);
  return { find, say(text) { find(".words").textContent = text; } };
}

/** The game in `root`: you, and an agent below you where there is an opponent. Who has given it a name, `game`, is told of each episode. */
function play(root, { opponent = null, name = "the agent", game = null } = {}) {
  root.innerHTML = BODY;
  const { find, say } = within(root), main = find("main");
  const players = opponent ? ["you", name] : ["you"];
  find(".tracks").innerHTML = players.map(() => `<canvas role="img"></canvas>${opponent ? '<div class="name"></div>' : ""}`).join("");
  const canvases = [...root.querySelectorAll("canvas")];
  root.querySelectorAll(".name").forEach((element, i) => { element.textContent = players[i]; });
  canvases.forEach((canvas, i) => canvas.setAttribute("aria-label", `the cart of ${players[i]}`));
  find(".gust").hidden = !opponent;
  let carts, start, pushes, blown, running = false, paused = false, best = 0;

  const seconds = (cart) => (cart.steps * TAU).toFixed(1);
  function again() {
    start = [0, 1, 2, 3].map(() => (Math.random() - 0.5) * 0.1); pushes = []; blown = false;
    carts = players.map(() => new Cart(start));
    running = false; time.stop();
    say("Press an arrow: the cart starts to move, and every push counts.");
    show();
  }
  function show() {
    canvases.forEach((canvas, i) => draw(canvas, carts[i]));
    find(".score").textContent = `${seconds(carts[0])} s`;
    find(".best").textContent = best ? `best ${(best * TAU).toFixed(1)} s` : "";
    find(".left").classList.toggle("on", carts[0].push < 0 && running); find(".right").classList.toggle("on", carts[0].push > 0 && running);
  }
  function press(push) {
    if (carts[0].down || carts[0].done) return;
    carts[0].push = push;  // no key keeps the last push: the cart is always pushed
    if (!running && !paused) { running = true; say(opponent ? "Same start, same physics. Who stands longer?" : ""); time.start(); }
  }
  function step() {
    pushes.push(carts[0].push); carts[0].move(carts[0].push);
    if (opponent) carts[1].move(pushOf(opponent, observed(carts[1].state)));
    if (carts[0].down || carts[0].done) end();
  }
  const time = clock(root, { speed: () => Number(find(".speed").value), step, show });
  const others = (id) => (all) => all.filter((each) => each.id !== id);
  const tell = teller(game, {
    late(episode) {
      unheard((all) => [...others(episode.id)(all), episode]);
      if (!running) say("Python has not heard of your episode: its kernel is busy or gone. Play on; the episode waits, and is there when you have run this cell again.");
    },
    heard(id) {
      if (!running && unheard().some((each) => each.id === id)) say("Python has heard of your episode now.");
      unheard(others(id));
    },
  });
  if (game) unheard().forEach(tell);
  function end() {
    running = false; time.stop();
    best = Math.max(best, carts[0].steps);
    if (!blown) tell({ start, pushes });  // Gymnasium knows no wind
    const why = carts[0].done ? "Ten seconds. That is a perfect episode!" : Math.abs(carts[0].state[0]) > TRACK ? "Off the track." : "It fell.";
    const rival = !opponent ? "" : carts[1].down ? ` You beat ${name}, which fell after ${seconds(carts[1])} s.` : ` ${name[0].toUpperCase() + name.slice(1)} still stands.`;
    say(`${why} ${seconds(carts[0])} s.${rival} Again?`);
  }
  main.addEventListener("keydown", (event) => {
    const push = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.target === find(".speed")) return;
    if (push) { press(push); event.preventDefault(); event.stopPropagation(); }
    else if (event.key === " " && event.target === main) { again(); event.preventDefault(); event.stopPropagation(); }
  }, true);
  for (const [button, push] of [[".left", -1], [".right", 1]]) {
    find(button).addEventListener("pointerdown", (event) => { press(push); event.preventDefault(); main.focus({ preventScroll: true }); });
    find(button).addEventListener("click", () => press(push));
  }
  find(".gust").addEventListener("click", () => {
    main.focus({ preventScroll: true });
    if (!running || paused) { say("The wind waits until you play."); return; }
    const way = Math.random() < 0.5 ? -1 : 1;
    for (const cart of carts) if (!cart.down) cart.state[3] += way * GUST;
    blown = true;
    say(`A gust to the ${way < 0 ? "left" : "right"}, at both poles alike.`);
  });
  find(".again").addEventListener("click", () => { again(); main.focus({ preventScroll: true }); });
  find(".pause").addEventListener("click", () => {
    paused = !paused;
    find(".pause").textContent = paused ? "Go on" : "Pause"; find(".pause").setAttribute("aria-pressed", String(paused));
    if (paused) time.stop(); else if (running) time.start();
    main.focus({ preventScroll: true });
  });
  find(".speed").addEventListener("input", (event) => { find("output").textContent = event.target.value; });
  window.addEventListener("resize", show);
  again();
}

const INSIDE = `<main data-lm-suppress-shortcuts="true">
  <div class="words" role="status"></div>
  <div class="both"><div><canvas class="map" tabindex="0" role="application"></canvas><div class="name">across: the angle, -12 to 12 degrees; upwards: how fast it turns<span class="legend"></span></div></div>
  <div><canvas class="cart" role="img" aria-label="the cart"></canvas><div class="name">Pull at the cart or at its pole.</div>
  <div class="keys"><button class="left" aria-label="hit the pole to the left">&#9664; hit</button><button class="right" aria-label="hit the pole to the right">hit &#9654;</button></div></div></div>
  <div class="more"><label class="training">Training <input class="when" type="range" min="0"><output></output></label>
  <label class="which">Map <select><option value="">push</option><option value="value">value</option></select></label>
  <label>Position <input class="x" type="range" min="-2.2" max="2.2" step="0.1" value="0"><output></output></label>
  <label>Velocity <input class="v" type="range" min="-2" max="2" step="0.1" value="0"><output></output></label>
  <label>Half of the pole [m] <input class="half" type="range" min="0.1" max="1.5" step="0.05" value="0.5"><output></output></label>
  <label>Push [N] <input class="force" type="range" min="1" max="20" step="0.5" value="10"><output></output></label>
  <button class="drop">Drop it upright</button></div></main>`;
const FASTEST = 3;  // radians per second, at the map's upper edge

/** What `value` says all over a map, `side` cells each way, of how far across and how far up a cell is, -1 to 1: column by column, from the top. */
function sampled(side, value) {
  const at = (i) => 2 * (i + 0.5) / side - 1;
  return Array.from({ length: side ** 2 }, (_, k) => value(at(Math.floor(k / side)), -at(k % side)));
}

/** Paints such a map: `look(value)` is how strong the colour is, 0 to 1, and which. */
function tiles({ pen, width, height }, values, look) {
  const side = Math.sqrt(values.length), wide = width / side, high = height / side;
  values.forEach((value, k) => {
    const i = Math.floor(k / side), j = k % side, x = Math.round(i * wide), y = Math.round(j * high);
    [pen.globalAlpha, pen.fillStyle] = look(value);
    pen.fillRect(x, y, Math.round((i + 1) * wide) - x, Math.round((j + 1) * high) - y);
  });
  pen.globalAlpha = 1;
}

/** Where on a map a pointer is: across and up, -1 to 1. */
function spot(map, event) {
  const box = map.getBoundingClientRect();
  return [2 * (event.clientX - box.left) / box.width - 1, 1 - 2 * (event.clientY - box.top) / box.height];
}

/**
 * Where a policy pushes, as a map to click on: the cart starts there, and is saved or lost. Where there is a network for it, also what states are worth.
 * Of several stages of a training, {label, policy, value}, a slider chooses one.
 */
function explore(root, { stages, name = "the agent" }) {
  root.innerHTML = INSIDE;
  const { find, say } = within(root), number = (what) => Number(find(what).value), map = find(".map");
  let cart = new Cart([0, 0, 0, 0]), path = [], nudges = 0, start = [0, 0], hand = null, grid, made, { policy, value } = stages.at(-1);
  const world = () => ({ ...WORLD, half: number(".half"), force: number(".force") });
  const seen = (theta, thetaDot) => observed([number(".x"), number(".v"), theta, thetaDot]);
  const pushes = (observation) => preference(policy, observation);
  const worth = (observation) => Math.max(...outputs(value, observation));
  function show() {
    const canvas = prepared(map), { pen, width, height } = canvas, shows = find("select").value ? worth : pushes;
    ({ policy, value } = stages[number(".when")]);
    const asked = [number(".x"), number(".v"), number(".when"), shows.name].join();
    if (made !== asked) grid = sampled(40, (across, up) => shows(seen(across * LEAN, up * FASTEST)));  // a moving cart leaves the map as it is
    made = asked;
    const typical = policy.real ? 1 : grid.map(Math.abs).sort((a, b) => a - b)[grid.length >> 1] || 1, least = Math.min(...grid), most = Math.max(...grid);
    const [blue, orange] = ["--cart", "--pole"].map(colour);
    tiles(canvas, grid, (cell) => [
      (shows === worth ? (cell - least) / (most - least || 1) : Math.min(1, Math.abs(cell) / typical)) * 0.8 + 0.05,
      shows === worth || cell < 0 ? blue : orange,
    ]);
    find(".legend").textContent = shows === worth ? `; worth from ${least.toFixed(1)} to ${most.toFixed(1)}` : "";
    pen.strokeStyle = colour("--ink"); pen.lineWidth = 1.5; pen.beginPath();
    const at = ([, , theta, thetaDot]) => [(theta / LEAN + 1) / 2 * width, (1 - thetaDot / FASTEST) / 2 * height];
    path.forEach((state, k) => { const [x, y] = at(state); if (k) pen.lineTo(x, y); else pen.moveTo(x, y); });
    pen.stroke(); pen.fillStyle = colour("--ink"); pen.beginPath(); pen.arc(...at(cart.state), 5, 0, 7); pen.fill();
    const onTrack = draw(find(".cart"), cart, world());
    if (hand && !cart.down) {
      onTrack.pen.setLineDash([4, 4]); onTrack.pen.lineWidth = 2; onTrack.pen.strokeStyle = colour("--ink"); onTrack.pen.beginPath();
      onTrack.pen.moveTo(...(hand.pole ? onTrack.tip : onTrack.middle)); onTrack.pen.lineTo(hand.x, hand.y); onTrack.pen.stroke(); onTrack.pen.setLineDash([]);
    }
    root.querySelectorAll("input").forEach((input) => { input.nextElementSibling.textContent = input.value; });
    const { label } = stages[number(".when")];
    find(".when + output").textContent = label; find(".when").setAttribute("aria-valuetext", label);
  }
  function drop(theta, thetaDot) {
    cart = new Cart([number(".x"), number(".v"), theta, thetaDot]); path = [cart.state]; nudges = 0; start = [theta, thetaDot];
    say(`Now ${name} pushes ...`);
    time.start();
  }
  function nudge() { if (cart.down || cart.done) drop(0, 0); nudges += 1; time.start(); }
  /** What the hand does to the cart in a step: like a rubber band, the farther the stronger. The force on the cart [N]; a pole is turned. */
  function pulled() {
    if (!hand) return 0;
    const { middle: [x, y], metre } = place(find(".cart"), cart, world()), bounded = (value, most) => Math.max(-most, Math.min(most, value));
    if (!hand.pole) return bounded(25 * (hand.x - x) / metre, 20);
    cart.state[3] += TAU * bounded(30 * (Math.atan2(hand.x - x, Math.max(10, y - hand.y)) - cart.state[2]), 12);
    return 0;
  }
  function step() {
    const pull = pulled();
    cart.move(pushOf(policy, observed(cart.state)), world(), pull);
    path = [...path.slice(-150), cart.state];
    if (!cart.down && !cart.done) return;
    time.stop(); hand = null;
    const spite = nudges === 1 ? "1 nudge" : `${nudges} nudges`;
    say(cart.down ? `Lost after ${(cart.steps * TAU).toFixed(1)} s${nudges ? ` and ${spite}` : ""}.` : `Saved: it stands after ten seconds${nudges ? `, in spite of ${spite}` : ""}.`);
  }
  const time = clock(root, { step, show });
  map.addEventListener("pointerdown", (event) => {
    const [across, up] = spot(map, event);
    drop(across * LEAN * 0.99, up * FASTEST);
  });
  map.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    drop(...[LEAN, FASTEST].map((most, i) => Math.max(-0.95 * most, Math.min(0.95 * most, start[i] + way[i] * most / 10))));
  });
  find(".cart").addEventListener("pointerdown", (event) => {
    nudge();
    hand = { x: event.offsetX, y: event.offsetY, pole: event.offsetY < place(find(".cart"), cart, world()).middle[1] };
    find(".cart").setPointerCapture(event.pointerId);
  });
  find(".cart").addEventListener("pointermove", (event) => { if (hand) { hand.x = event.offsetX; hand.y = event.offsetY; } });
  for (const over of ["pointerup", "pointercancel"]) find(".cart").addEventListener(over, () => { hand = null; });
  map.setAttribute("aria-label", `where ${name} pushes to the left (blue) and to the right (orange), or what states are worth, over angle and angular velocity; the arrow keys choose where the cart starts`);
  for (const [button, way] of [[".left", -1], [".right", 1]]) find(button).addEventListener("click", () => { nudge(); cart.state[3] += way * GUST; });
  find(".drop").addEventListener("click", () => drop(0, 0));
  root.querySelectorAll("input, select").forEach((input) => input.addEventListener("input", show));
  find(".which").hidden = !value; find(".training").hidden = stages.length < 2;
  find(".when").max = find(".when").value = stages.length - 1;
  window.addEventListener("resize", show);
  const explain = () => say(`${find("select").value ? "What states are worth: the bluer, the more." : `Where ${name} pushes: blue to the left, orange to the right${policy.real ? "; the more colour, the harder" : ""}.`} Click on the map, and the cart starts there.`);
  find("select").addEventListener("input", explain);
  explain();
  find(".words").style.minHeight = `${find(".words").offsetHeight}px`;  // what stands below it stays where it is
  show();
}

const GAINS = [["x", "Position [N/m]", 20, 0.5], ["v", "Velocity [N s/m]", 20, 0.5], ["theta", "Angle [N/rad]", 200, 2], ["turn", "Angular velocity [N s/rad]", 80, 1]];
const TUNING = `<main data-lm-suppress-shortcuts="true">
  <div class="words" role="status"></div>
  <div class="both"><div><canvas class="map gains" role="img" aria-label="how long the pole stands, over the two gains for the pole: the sliders below set them"></canvas><div class="name">its gains: across for the angle, upwards for the angular velocity; the more colour, the longer it stands</div></div>
  <div><canvas class="map starts" role="img"></canvas><div class="name">its starts: across the angle, upwards how fast it turns; the coloured ones are saved</div></div></div>
  <canvas class="cart" role="img" aria-label="the cart"></canvas>
  <div class="more">${GAINS.map(([name, text, most, step]) => `<label>${text} <input class="${name}" type="range" min="${-most}" max="${most}" step="${step}"><output></output></label>`).join("")}
  <button class="drop">Start again</button></div></main>`;

/** What a step multiplies small disturbances by in the long run, under these gains: the spectral radius of the physics near the upright. */
function growth(gains) {
  const tiny = 1e-6, unit = (j) => [0, 1, 2, 3].map((i) => (i === j ? tiny : 0));
  const columns = [0, 1, 2, 3].map((j) => step(unit(j), 0)), pushed = step([0, 0, 0, 0], tiny);
  let matrix = [0, 1, 2, 3].map((i) => [0, 1, 2, 3].map((j) => (columns[j][i] + pushed[i] * gains[j]) / tiny)), log = 0;
  for (let doubling = 0; doubling < 14; doubling++) {  // the matrix to the power of 16,384, its size kept apart
    matrix = matrix.map((row) => [0, 1, 2, 3].map((j) => row.reduce((sum, value, k) => sum + value * matrix[k][j], 0)));
    const size = Math.max(...matrix.flat().map(Math.abs));
    if (!size) return 0;
    log = 2 * log + Math.log(size); matrix = matrix.map((row) => row.map((value) => value / size));
  }
  return Math.exp(log / 2 ** 14);
}

/** The push of a linear rule, -1 to 1. */
const linearPush = (gains, state) => Math.max(-1, Math.min(1, gains.reduce((sum, gain, i) => sum + gain * state[i], 0) / WORLD.force));

/** For how many steps a linear rule holds the pole from here, `most` at most. */
function stands(gains, state, most = 500) {
  let steps = 0;
  for (; steps < most && !fallen(state); steps++) state = step(state, linearPush(gains, state) * WORLD.force);
  return steps;
}

/** A linear rule on the continuous CartPole, whose four gains are to turn: what they reach, which starts they save, and a cart to watch. */
function tune(root, { gains: first }) {
  root.innerHTML = TUNING;
  const { find, say } = within(root), inputs = GAINS.map(([name]) => find(`.${name}`)), map = find(".gains"), starts = find(".starts");
  inputs.forEach((input, i) => { input.value = first[i]; });
  const gains = () => inputs.map((input) => Number(input.value)), SIDE = 24;
  let cart = null, lengths = [], saved = [], drawnFor = "";
  function paint(map, values, dot) {
    const canvas = prepared(map), { pen, width, height } = canvas, orange = colour("--pole");
    tiles(canvas, values, (value) => [0.08 + 0.92 * value, orange]);
    pen.fillStyle = colour("--ink"); pen.strokeStyle = colour("--paper"); pen.lineWidth = 2;
    pen.beginPath(); pen.arc((dot[0] + 1) / 2 * width, (1 - dot[1]) / 2 * height, 6, 0, 7); pen.fill(); pen.stroke();
  }
  const share = (i) => inputs[i].value / GAINS[i][2], show = () => draw(find(".cart"), cart);
  function paintMaps() { paint(map, lengths, [share(2), share(3)]); paint(starts, saved, [0.05 / LEAN, 0]); }
  function turned() {
    const now = gains(), others = `${now[0]} ${now[1]}`;
    if (others !== drawnFor) {
      drawnFor = others;
      const from = [[0.05, 0, 0.03, 0], [0, 0.05, -0.05, 0]];
      lengths = sampled(SIDE, (theta, turn) => from.reduce((sum, start) => sum + stands([now[0], now[1], theta * GAINS[2][2], turn * GAINS[3][2]], start), 0) / 1000);
    }
    saved = sampled(SIDE, (theta, turn) => stands(now, [0, 0, theta * LEAN, turn * FASTEST]) === 500 ? 1 : 0);
    const percent = Math.round(100 * saved.reduce((sum, value) => sum + value, 0) / saved.length), times = growth(now);
    starts.setAttribute("aria-label", `${percent} % of the starts are saved`);
    inputs.forEach((input) => { input.parentElement.querySelector("output").textContent = input.value; });
    say(`In each step a small disturbance is multiplied by ${times.toFixed(3)}: it ${times > 1.0005 ? "grows" : times < 0.9995 ? "dies out" : "stays"}. ${percent} % of the starts are saved for ten seconds.`);
    paintMaps(); restart();
  }
  function restart() { cart = new Cart([0, 0, 0.05, 0]); time.start(); }
  function move() {
    cart.move(linearPush(gains(), cart.state));
    if (cart.down || cart.done) time.stop();
  }
  const time = clock(root, { step: move, show });
  const drag = (event) => {
    if (event.type === "pointermove" && !event.buttons) return;
    spot(map, event).forEach((value, i) => { inputs[2 + i].value = value * GAINS[2 + i][2]; });
    event.preventDefault(); turned();
  };
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); drag(event); });
  map.addEventListener("pointermove", drag);
  inputs.forEach((input) => input.addEventListener("input", turned));
  find(".drop").addEventListener("click", restart);
  window.addEventListener("resize", () => { paintMaps(); show(); });
  turned();
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) { time.stop(); show(); }
}

const CONTROLS = (speed) => `<div class="more"><button class="run"></button><input class="at" type="range" min="0" aria-label="Moment">${SPEED(speed)}</div>`;

/**
 * Plays `count` moments, over and over, while they are in sight; a reader who wants less motion starts it. `draw(k)` shows moment k.
 * Returns what goes to a moment, and waits there.
 */
function player(root, count, draw) {
  const { find } = within(root), slider = find(".at");
  let at = 0, wanted = !matchMedia("(prefers-reduced-motion: reduce)").matches, seen = false;
  slider.max = count - 1;
  function show() {
    const k = Math.min(at, count - 1);
    draw(k);  // before any words change, or each canvas would have the page laid out anew
    slider.value = k; slider.setAttribute("aria-valuetext", `${(k * TAU).toFixed(2)} s`);
  }
  const time = clock(root, {
    speed: () => Number(find(".speed").value), show,
    step() { at = (at + 1) % (count + 1 / TAU); },  // for a second it stays as it ended
  });
  function go() { find(".run").textContent = wanted ? "Pause" : "Play"; if (wanted && seen) time.start(); else time.stop(); }
  function jump(k) { at = Math.max(0, Math.min(count - 1, k)); wanted = false; go(); show(); }
  find(".run").addEventListener("click", () => { wanted = !wanted; if (at >= count - 1) at = 0; go(); });
  slider.addEventListener("input", () => jump(Number(slider.value)));
  find(".speed").addEventListener("input", (event) => { find(".speed + output").textContent = event.target.value; });
  new IntersectionObserver((entries) => { seen = entries.at(-1).isIntersecting; go(); }).observe(find("canvas"));
  window.addEventListener("resize", show);
  go(); show();
  return jump;
}

/** The moments of a film: rows of 16-bit numbers, each column in units of its largest. */
function moments({ largest, rows }) {
  const bytes = Uint8Array.from(atob(rows), (letter) => letter.charCodeAt(0)), numbers = new Int16Array(bytes.buffer), width = largest.length;
  return Array.from({ length: numbers.length / width }, (_, k) => largest.map((unit, j) => (numbers[k * width + j] / 32767) * unit));
}

/** Shows moment k of a film, with room below the track if one of `all` hangs. */
function screen(canvas, film, all = film) {
  const hangs = all.some((row) => Math.abs(row[2]) > Math.PI / 2);
  return (k) => draw(canvas, { state: film[k], push: film[k][4] || 0 }, WORLD, hangs);
}

const CURVES = [["position", "m"], ["velocity", "m/s"], ["angle", "rad"], ["angular velocity", "rad/s"], ["push", ""]];

const SPAN = 75;  // moments that the curves show at once: a push can still be told from the next one

/** One column of a film around moment `at`, which is marked, as high as `most`; bars to both sides where it is a push. */
function curve(canvas, values, most, at, bars) {
  const { pen, width, height } = prepared(canvas), span = Math.min(SPAN, values.length);
  const first = Math.max(0, Math.min(at - (SPAN >> 1), values.length - span)), step = (width - 8) / span;
  const x = (k) => 4 + (k - first) * step, y = (value) => height / 2 - (value / most) * (height / 2 - 5), level = y(0);
  pen.strokeStyle = colour("--track"); pen.lineWidth = 1; pen.beginPath(); pen.moveTo(4, level); pen.lineTo(width - 4, level); pen.stroke();
  pen.lineWidth = 2; pen.strokeStyle = colour("--cart"); pen.beginPath();
  for (let k = first; k < first + span; k++) {
    if (!bars) { pen.lineTo(x(k), y(values[k])); continue; }
    pen.fillStyle = colour(values[k] > 0 ? "--pole" : "--cart"); pen.fillRect(x(k), level, step - 0.5, y(values[k]) - level);
  }
  pen.stroke();
  pen.strokeStyle = colour("--ink"); pen.beginPath(); pen.moveTo(x(at), 0); pen.lineTo(x(at), height); pen.stroke();
}

/** An episode to look at again: the cart, and in step with it what the agent saw and did. */
function replay(root, { film, label, speed }) {
  const rows = moments(film), columns = CURVES.slice(0, film.largest.length), series = columns.map((_, j) => rows.map((row) => row[j]));
  root.innerHTML = `<main data-lm-suppress-shortcuts="true"><div class="top"><span class="name"></span><span class="clock"></span></div>
    <canvas class="cart" role="img" aria-label="the cart"></canvas>${CONTROLS(speed)}
    ${columns.map(([name]) => `<div class="curve"><span>${name}</span><output aria-live="off"></output><canvas role="img" aria-label="${name} over time"></canvas></div>`).join("")}</main>`;
  const { find } = within(root), onScreen = screen(find(".cart"), rows), lines = [...root.querySelectorAll(".curve")];
  let now = 0;
  find(".name").textContent = label;
  const jump = player(root, rows.length, (k) => {
    onScreen(now = k);
    lines.forEach((line, j) => curve(line.lastChild, series[j], film.largest[j], k, !columns[j][1]));
    find(".clock").textContent = `${(k * TAU).toFixed(2)} s`;
    lines.forEach((line, j) => {
      const value = rows[k][j], [, unit] = columns[j];
      line.children[1].textContent = unit ? `${value < 0 ? "\u2212" : "+"}${Math.abs(value).toFixed(3)} ${unit}` : value ? (value < 0 ? "\u25c0 left" : "right \u25b6") : "";
    });
  });
  for (const { lastChild: canvas } of lines) {
    let from;
    canvas.addEventListener("pointerdown", (event) => { from = [now, event.clientX]; canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) jump(from[0] - Math.round((event.clientX - from[1]) / canvas.clientWidth * SPAN));
    });
  }
}

/** Two episodes side by side: which is better? Who has given it a name, `game`, is told. */
function compare(root, { films, game = null }) {
  const sides = ["left", "right"], both = films.map(moments);
  root.innerHTML = `<main data-lm-suppress-shortcuts="true"><div class="words" role="status">Which is better?</div><div class="both pair">
    ${sides.map((side) => `<div><canvas role="img" aria-label="the ${side} cart"></canvas><div class="keys choose"><button aria-pressed="false">The ${side} one</button></div></div>`).join("")}
    </div>${CONTROLS(1)}</main>`;
  const { say } = within(root), screens = [...root.querySelectorAll("canvas")].map((canvas, i) => screen(canvas, both[i], both.flat())), buttons = [...root.querySelectorAll(".choose button")];
  player(root, Math.max(...both.map((rows) => rows.length)), (k) => screens.forEach((show, i) => show(Math.min(k, both[i].length - 1))));
  const tell = teller(game, { late: () => say("Python has not heard of your answer: its kernel is busy or gone. Run this cell again once it is back.") });
  buttons.forEach((button, i) => button.addEventListener("click", () => {
    buttons.forEach((each) => { each.classList.toggle("on", each === button); each.setAttribute("aria-pressed", String(each === button)); });
    say(`You find the ${sides[i]} one better.`); tell({ better: sides[i] });
  }));
}

/** Whether Mann and Whitney's test at the level of 0.05 tells two samples apart, by the normal approximation. */
function toldApart(one, other) {
  const pairs = one.length * other.length, of = one.length + other.length, counts = {};
  let won = 0, ties = 0;
  for (const a of one) for (const b of other) won += a > b ? 1 : a === b ? 0.5 : 0;
  for (const value of [...one, ...other]) counts[value] = (counts[value] || 0) + 1;
  for (const count of Object.values(counts)) ties += count ** 3 - count;
  return Math.abs(won - pairs / 2) - 0.5 > 1.959964 * Math.sqrt(pairs / 12 * (of + 1 - ties / (of * (of - 1))));
}

/** A hundred studies of two algorithms, with as many seeds of each as a slider says; those that tell the two apart have a colour. */
function studies(root, { pairs }) {
  root.innerHTML = `<main data-lm-suppress-shortcuts="true"><div class="words" role="status"></div><div class="studies" aria-hidden="true">${"<i></i>".repeat(100)}</div>
    <div class="more"><label>Pair <select></select></label><label>Seeds of each <input type="range" min="2" max="50" value="5"><output></output></label>
    <button>Another hundred</button></div></main>`;
  const { find, say } = within(root), squares = [...root.querySelectorAll("i")];
  pairs.forEach(({ label }, i) => find("select").add(new Option(label, i)));
  function run() {
    const seeds = Number(find("input").value), drawn = (values) => Array.from({ length: seeds }, () => values[Math.floor(Math.random() * values.length)]);
    squares.forEach((square) => square.classList.toggle("on", toldApart(...pairs[find("select").value].both.map(drawn))));
    find("output").textContent = seeds;
    say(`${root.querySelectorAll(".on").length} of 100 studies with ${seeds} seeds of each tell the two apart.`);
  }
  find("main").addEventListener("input", run); find("button").addEventListener("click", run);
  run();
}

if (typeof module !== "undefined") module.exports = { step, fallen, observed, outputs, pushOf, growth, stands, moments, toldApart };
