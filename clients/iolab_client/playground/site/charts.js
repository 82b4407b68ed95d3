// Two small drawings: a line of rates, and a strip of what a thread waited in.

const SECONDS = 30;

/** A canvas that is as sharp as the screen; its drawing is told in words beside it. */
function prepare(canvas) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Draw `points` ([seconds, value]) of the last half minute as a line; `now` is its right end. */
export function sparkline(canvas, points, now, stroke) {
  const { context, width, height } = prepare(canvas);
  const most = Math.max(1, ...points.map(([, value]) => value));
  context.strokeStyle = stroke;
  context.lineWidth = 1.5;
  context.beginPath();
  for (const [at, value] of points) {
    context.lineTo(width * (1 - (now - at) / SECONDS), height - 1.5 - (height - 3) * (value / most));
  }
  context.stroke();
}

/** Draw `samples` ([seconds, kind]) of the last half minute side by side, each until the next one. */
export function strip(canvas, samples, now, colours) {
  const { context, width, height } = prepare(canvas);
  const x = (at) => width * (1 - (now - at) / SECONDS);
  samples.forEach(([at, kind], index) => {
    const end = index + 1 < samples.length ? samples[index + 1][0] : now;
    context.fillStyle = colours.get(kind);
    context.fillRect(x(at), 0, Math.max(1, x(end) - x(at) + 0.5), height);
  });
}

/** Forget what is older than half a minute. */
export function trim(list, now) {
  while (list.length > 1 && list[1][0] < now - SECONDS) list.shift();
}
