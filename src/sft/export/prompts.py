"""Texts on which an adapter and its merge are compared when no other prompts are given."""

from __future__ import annotations

BUILT_IN_PROMPTS: tuple[str, ...] = (
    "Explain in two sentences why the sky looks blue at noon and red in the evening.",
    "Write a Python function that returns the n-th Fibonacci number without recursion.",
    "A train leaves at 09:40 and arrives at 13:05. How long is the journey, in minutes?",
    "Once upon a time, in a village by the sea, there lived a girl who collected lost umbrellas.",
    "Translate into French: The library closes early on Sundays, but the garden stays open.",
    "List three advantages and one drawback of storing dates as text in a database.",
    "Fasse zusammen: Der Fluss trat im Frühjahr zweimal über die Ufer, doch die neuen Deiche hielten stand.",
    "¿Qué diferencia hay entre una metáfora y una comparación? Da un ejemplo de cada una.",
    "Pourquoi met-on du sel sur les routes en hiver, et pourquoi cela ne suffit-il pas par grand froid ?",
    "请用三句话介绍一下为什么植物在夜里也需要呼吸。",
    "日本の四季の中で、どの季節がいちばん好きですか。理由も教えてください。",
    "Напиши короткое письмо соседу с просьбой полить цветы на время отпуска.",
    "اكتب جملة واحدة تصف شروق الشمس فوق الصحراء.",
    "एक किसान के पास सत्रह बकरियाँ थीं; नौ को छोड़कर सब बिक गईं। कितनी बचीं?",
    '{"order": 1042, "items": [{"name": "lamp", "price": 19.5}, {"name": "rug", "price": 80}]} What is the total?',
    "SELECT name, COUNT(*) FROM visits GROUP BY name HAVING COUNT(*) > 3; Explain what this returns.",
)
"""Sixteen: several scripts, code, numbers, prose, so that most kinds of token take part."""
