"use strict";
(() => {
	const form = document.querySelector(".filters");
	if (form) {
		const words = form.querySelector("[type=search]");
		const boxes = [...form.querySelectorAll("[type=checkbox]")];
		const bodies = [...document.querySelectorAll(".matrix tbody")].map((body) => ({
			body, rows: [...body.rows].slice(1).map((row) => ({ row, text: row.textContent.toLowerCase() })),
		}));
		const filter = () => {
			const wanted = words.value.toLowerCase().split(/\s+/);
			const verdicts = boxes.filter((box) => box.checked).map((box) => `td.${box.value}`).join(",");
			let shown = 0;
			for (const { body, rows } of bodies) {
				let some = false;
				for (const { row, text } of rows) {
					const fits = wanted.every((word) => text.includes(word)) && (!verdicts || row.querySelector(verdicts));
					row.hidden = !fits;
					some = some || fits;
					shown += fits ? 1 : 0;
				}
				body.hidden = !some;
			}
			form.querySelector("output").textContent = `${shown} claim${shown === 1 ? "" : "s"}`;
		};
		form.hidden = false;
		form.addEventListener("input", filter);
		form.addEventListener("submit", (event) => event.preventDefault());
		filter();
	}
	for (const code of navigator.clipboard ? document.querySelectorAll(".again code") : []) {
		const button = document.createElement("button");
		button.type = "button";
		button.textContent = "copy";
		button.addEventListener("click", async () => {
			await navigator.clipboard.writeText(code.textContent);
			button.textContent = "copied";
		});
		code.after(button);
	}
})();
