// CartPole in the page: Gymnasium's physics, the lessons' networks, and a game. No library, no network, no build step.
"use strict";

const TRACK = 2.4, LEAN = (12 * 2 * Math.PI) / 360, TAU = 0.02, FORCE = 10;

/** One Euler step of Gymnasium's CartPole, in its order of operations: state [x, x_dot, theta, theta_dot], force [N]. */
function step(state, force) {
  const [x, xDot, theta, thetaDot] = state;
  const cosine = Math.cos(theta), sine = Math.sin(theta);
  const push = (force + 0.05 * (thetaDot * thetaDot) * sine) / 1.1;
  const thetaAcc = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - (0.1 * (cosine * cosine)) / 1.1));
  const xAcc = push - (0.05 * thetaAcc * cosine) / 1.1;
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

/** The push of a network, -1 or 1: the larger of two outputs, or the sign of one. */
function pushOf(network, observation) {
  const values = outputs(network, observation);
  return (values.length === 1 ? values[0] > 0 : values[1] > values[0]) ? 1 : -1;
}

/** One cart: its state, how long it has stood, and what pushed it last. */
class Cart {
  constructor(start) { this.state = start.slice(); this.steps = 0; this.push = 0; this.down = false; this.done = false; }
  move(push) {
    if (this.down) return;
    this.push = push;
    this.state = step(this.state, push * FORCE);
    this.down = fallen(this.state);
    this.steps += 1;
    if (this.steps >= 500) this.done = true;
  }
}

const STYLE = `
  :root { color-scheme: light dark; --ink: #222; --paper: #fff; --track: #777; --cart: #0072b2; --pole: #d55e00; --soft: #eef1f4; }
  @media (prefers-color-scheme: dark) { :root { --ink: #eee; --paper: #161616; --track: #999; --cart: #56b4e9; --pole: #e69f00; --soft: #2a2d31; } }
  * { box-sizing: border-box; } body { margin: 0; font: 16px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
  main { max-width: 640px; padding: 8px; outline: none; border-radius: 10px; } main:focus-visible { box-shadow: 0 0 0 3px var(--cart); }
  .top { display: flex; justify-content: space-between; align-items: baseline; gap: 1em; } .score { font-size: 2em; font-weight: 700; font-variant-numeric: tabular-nums; }
  canvas { display: block; width: 100%; height: 150px; } .name { font-size: 0.85em; opacity: 0.8; }
  .keys { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; } button { font: inherit; padding: 0.7em; border: 0; border-radius: 8px; color: var(--ink); background: var(--soft); touch-action: none; user-select: none; }
  button:focus-visible, input:focus-visible { outline: 3px solid var(--cart); } .keys button { font-size: 1.4em; } button:active, button.on { background: var(--cart); color: var(--paper); }
  .more { display: flex; flex-wrap: wrap; gap: 8px 1em; align-items: center; margin-top: 8px; } .words { min-height: 1.4em; }
  label { display: flex; gap: 0.5em; align-items: center; font-size: 0.9em; }`;

const BODY = `<main tabindex="0" aria-label="CartPole: balance the pole with the left and right arrow keys" data-lm-suppress-shortcuts="true">
  <div class="top"><span class="score" aria-live="off">0.0 s</span><span class="best"></span></div>
  <div class="tracks"></div>
  <div class="words" role="status"></div>
  <div class="keys"><button class="left" aria-label="push to the left">&#9664;</button><button class="right" aria-label="push to the right">&#9654;</button></div>
  <div class="more"><button class="again">Again</button><button class="pause" aria-pressed="false">Pause</button>
  <label>Speed <input class="speed" type="range" min="0.1" max="2" step="0.1" value="0.2"><output>0.2</output></label></div></main>`;

function draw(canvas, cart, pole) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
  const pen = canvas.getContext("2d"), colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
  const metre = width / (2 * TRACK + 0.8), ground = height - 22, x = width / 2 + cart.state[0] * metre, length = Math.min(metre, ground - 30);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.lineCap = "round"; pen.strokeStyle = colour("--track"); pen.lineWidth = 2; pen.beginPath();
  for (const end of [-TRACK, TRACK]) { pen.moveTo(width / 2 + end * metre, ground - 10); pen.lineTo(width / 2 + end * metre, ground + 12); }
  pen.moveTo(width / 2 - TRACK * metre, ground + 12); pen.lineTo(width / 2 + TRACK * metre, ground + 12); pen.stroke();
  pen.fillStyle = colour("--cart"); pen.fillRect(x - 24, ground - 12, 48, 22);
  pen.strokeStyle = colour("--pole"); pen.lineWidth = 8; pen.beginPath(); pen.moveTo(x, ground - 12);
  pen.lineTo(x + length * Math.sin(cart.state[2]), ground - 12 - length * Math.cos(cart.state[2])); pen.stroke();
  if (cart.push && !cart.down) { pen.fillStyle = colour("--ink"); pen.font = "18px sans-serif"; pen.textAlign = "center"; pen.fillText(cart.push < 0 ? "\u25c0" : "\u25b6", x + cart.push * 38, ground + 5); }
}

/** The game in `root`: you, and an agent below you where there is an opponent. */
function play(root, { opponent = null, name = "the agent" } = {}) {
  root.innerHTML = BODY;
  const find = (what) => root.querySelector(what), main = find("main");
  const players = opponent ? ["you", name] : ["you"];
  find(".tracks").innerHTML = players.map(() => `<canvas role="img"></canvas>${opponent ? '<div class="name"></div>' : ""}`).join("");
  const canvases = [...root.querySelectorAll("canvas")];
  root.querySelectorAll(".name").forEach((element, i) => { element.textContent = players[i]; });
  canvases.forEach((canvas, i) => canvas.setAttribute("aria-label", `the cart of ${players[i]}`));
  let carts, last, left, running = false, paused = false, best = 0;

  const say = (text) => { find(".words").textContent = text; };
  const seconds = (cart) => (cart.steps * TAU).toFixed(1);
  function again() {
    const start = [0, 1, 2, 3].map(() => (Math.random() - 0.5) * 0.1);
    carts = players.map(() => new Cart(start));
    left = 0; last = null; running = false;
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
    if (!running && !paused) { running = true; say(opponent ? "Same start, same physics. Who stands longer?" : ""); last = null; requestAnimationFrame(tick); }
  }
  function tick(now) {
    if (!running || paused || !root.isConnected) return;
    left += last === null ? 0 : Math.min(now - last, 100) / 1000 * Number(find(".speed").value);
    last = now;
    for (; left >= TAU && running; left -= TAU) {
      carts[0].move(carts[0].push);
      if (opponent) carts[1].move(pushOf(opponent, observed(carts[1].state)));
      if (carts[0].down || carts[0].done) end();
    }
    show();
    if (running) requestAnimationFrame(tick);
  }
  function end() {
    running = false;
    best = Math.max(best, carts[0].steps);
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
  find(".again").addEventListener("click", () => { again(); main.focus({ preventScroll: true }); });
  find(".pause").addEventListener("click", () => {
    paused = !paused; last = null;
    find(".pause").textContent = paused ? "Go on" : "Pause"; find(".pause").setAttribute("aria-pressed", String(paused));
    if (!paused && running) requestAnimationFrame(tick);
    main.focus({ preventScroll: true });
  });
  find(".speed").addEventListener("input", (event) => { find("output").textContent = Number(event.target.value).toFixed(1); });
  window.addEventListener("resize", show);
  again();
}

if (typeof module !== "undefined") module.exports = { step, fallen, observed, outputs, pushOf };
