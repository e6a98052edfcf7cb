if (typeof DecompressionStream === "function") document.documentElement.classList.add("can-explore");
if (window.self !== window.top) document.documentElement.classList.add("is-embedded"); // in another page, which has a title of its own
