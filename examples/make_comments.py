"""Writes comments.parquet, the sample of the README: comments of our own, in two languages.

Two rows have no text, on purpose: they show what becomes of what can't be labelled.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

COMMENTS = [
    "The battery lasts two days and the screen is gorgeous, best phone I have owned.",
    "Stopped charging after a week and the shop won't take it back. Never again.",
    "It does what the box says, nothing more and nothing less.",
    "手机用了一个月，电池很耐用，屏幕也很清楚，非常满意。",
    "快递很慢，包装都破了，客服也不理人，太失望了。",
    "水果很新鲜，又甜又脆，下次还会再买。",
    "洗发水的味道太刺鼻，用完头皮发痒，不推荐。",
    "Shares of the chip maker rose after it said profit for the quarter doubled.",
    "the company said it will pay a dividend of ten cts a share vs eight a year ago",
    "沪指午后跳水，银行股领跌，两市成交额不足八千亿元。",
    "央行下调存款准备金率，基金经理看好下半年债市。",
    "The council voted to close two libraries despite months of protest.",
    "Rescue teams reached the village on Monday, three days after the storm.",
    "教育部公布今年高考报名人数，多地调整考试时间。",
    "国家队两球取胜，提前一轮小组出线。",
    "lol same, i only woke up five minutes ago",
    "do you have any pets? i have two cats and they hate each other",
    "haha that sounds fun, where did you go on holiday?",
    "I can't believe you ate the whole cake without me!",
    "Why is everyone so happy this morning? I hate mornings.",
    "Thank you so much, this made my week 😊",
    "The new update is terrible: it crashes whenever I open the camera.",
    "房间很干净，离地铁近，就是早餐种类少了一点。",
    "书的印刷很差，还有好几页是空白的，想退货。",
    "A slow start, but the last act is moving and the music is superb.",
    "Two hours of my life that I will not get back.",
    None,
    "   ",
]


def main() -> None:
    """Writes the file beside this one."""
    table = pa.table({"id": pa.array(range(len(COMMENTS)), pa.int64()), "comment": COMMENTS})
    pq.write_table(table, Path(__file__).with_name("comments.parquet"))


if __name__ == "__main__":
    main()
