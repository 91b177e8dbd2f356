// Hides the samples that do not hold the words that are looked for. Without it all are there, step by step.
(() => {
  const form = document.getElementById("filter");
  const cards = [...document.querySelectorAll("#samples .sample")];
  const groups = [...document.querySelectorAll("#samples details")];
  const words = form.querySelector("input");
  const step = form.querySelector("select");
  const said = form.querySelector("output");
  const opened = new Map();
  const look = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = wanted.length > 0 || step.value !== "";
    let shown = 0;
    for (const card of cards) {
      const text = card.textContent.toLowerCase();
      const fits = (step.value === "" || card.dataset.step === step.value) && wanted.every((word) => text.includes(word));
      card.hidden = !fits;
      shown += fits;
    }
    for (const group of groups) {
      if (active && !opened.has(group)) opened.set(group, group.open);
      const any = [...group.querySelectorAll(".sample")].some((card) => !card.hidden);
      group.hidden = active && !any;
      if (active) group.open = any;
      else if (opened.has(group)) group.open = opened.get(group);
    }
    if (!active) opened.clear();
    said.textContent = active ? shown + " of " + cards.length + " samples" : cards.length + " samples";
  };
  form.addEventListener("input", look);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  look();
})();
